// Keeps the page true: moves its clocks, and puts what the server renders in the old one's place.
'use strict';

const patience = 25000; // the server lets hear of it every ten seconds

const status = document.getElementById('status');
const line = document.getElementById('line');
let skew = Number(document.body.dataset.now) - Date.now(); // the server's clock, less ours
let heard = Date.now();
let lost = 0; // since when the server is not heard any more

// span is status.Span of the server.
function span(milliseconds) {
  const s = Math.round(Math.max(0, milliseconds) / 1000);
  const whole = (unit) => Math.floor(s / unit);
  if (s < 60) return `${s}s`;
  if (s < 3600) return `${whole(60)}m ${s % 60}s`;
  if (s < 172800) return `${whole(3600)}h ${Math.floor((s % 3600) / 60)}m`;
  return `${whole(86400)}d ${Math.floor((s % 86400) / 3600)}h`;
}

// words are those of the server, so that nothing jumps.
const words = {
  until: (left) => (left < 500 ? 'now' : `in ${span(left)}`),
  since: (left) => `${span(-left)} ago`,
  about: (left) => (left > 0 ? words.until(left) : words.since(left)),
};

function write(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

function tick() {
  const now = Date.now() + skew;
  if (!lost && Date.now() - heard > patience) lost = heard;
  for (const [kind, say] of Object.entries(words)) {
    for (const node of status.querySelectorAll(`[data-${kind}]`)) write(node, say(Number(node.dataset[kind]) - now));
  }
  for (const life of status.querySelectorAll('[data-from]')) {
    const from = Number(life.dataset.from);
    const share = Math.min(1, Math.max(0, (now - from) / Math.max(1, Number(life.dataset.to) - from)));
    life.querySelector('.passed').setAttribute('width', `${share * 100}%`);
    life.querySelector('.now').setAttribute('cx', `${share * 100}%`);
  }
  document.body.classList.toggle('lost', lost > 0);
  line.hidden = lost === 0;
  if (lost) write(line, `No word from the agent for ${span(Date.now() - lost)}`);
  document.title = `credagent: ${lost ? 'no answer' : status.querySelector('.verdict strong').textContent.toLowerCase()}`;
}

function listen() {
  const events = new EventSource('/v1/events');
  const hear = (event) => {
    const [clock, ...rendered] = event.data.split('\n');
    heard = Date.now();
    lost = 0;
    skew = Number(clock) - heard;
    if (event.type === 'status') status.innerHTML = rendered.join('\n'); // escaped by the server
    tick();
  };
  events.addEventListener('status', hear);
  events.addEventListener('beat', hear);
  events.addEventListener('error', () => {
    lost ||= Date.now();
    if (events.readyState !== EventSource.CLOSED) return; // it tries again by itself
    setTimeout(listen, 5000);
  });
}

tick();
setInterval(tick, 1000);
listen();
