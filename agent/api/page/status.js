// Keeps the page true: moves its clocks, and puts what the server renders in the old one's place.
'use strict';

const patience = 25000; // the server lets hear of it every ten seconds

const status = document.getElementById('status');
const line = document.getElementById('line');
const filter = document.getElementById('filter');
const matching = document.getElementById('matching');
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

// sift shows only what has all words of the filter in it.
function sift() {
  const wanted = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
  const items = [...document.querySelectorAll('#parts .item')];
  let shown = 0;
  for (const item of items) {
    const text = item.textContent.toLowerCase();
    item.hidden = !wanted.every((word) => text.includes(word));
    if (!item.hidden) shown++;
  }
  for (const part of document.querySelectorAll('#parts section')) {
    const own = [...part.querySelectorAll('.item')];
    part.hidden = own.length > 0 && own.every((item) => item.hidden);
  }
  write(matching, wanted.length ? `${shown} of ${items.length} shown` : '');
}

// arrive opens what the address names, and takes the filter away where it hides that.
function arrive() {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (!target) return;
  if (target.hidden) {
    filter.value = '';
    sift();
  }
  if (target.matches('details')) target.open = true;
  target.scrollIntoView({ block: 'center' });
}

// replace puts what the server rendered in the old one's place, and leaves open what a reader opened.
function replace(html) {
  const fresh = document.createElement('template');
  fresh.innerHTML = html; // escaped by the server
  const open = [...document.querySelectorAll('#parts details[open]')].map((node) => node.id);
  const focused = document.activeElement?.closest('#parts details')?.id;
  fresh.content.querySelector('h1 img').replaceWith(document.querySelector('h1 img')); // it is loaded already
  for (const id of ['top', 'parts']) document.getElementById(id).replaceChildren(...fresh.content.getElementById(id).childNodes);
  for (const id of open) {
    const node = document.getElementById(id);
    if (node?.matches('details')) node.open = true;
  }
  document.getElementById(focused)?.querySelector('summary')?.focus({ preventScroll: true });
  sift();
}

function listen() {
  const events = new EventSource('/v1/events');
  const hear = (event) => {
    const [clock, ...rendered] = event.data.split('\n');
    heard = Date.now();
    lost = 0;
    skew = Number(clock) - heard;
    if (event.type === 'status') replace(rendered.join('\n'));
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

document.getElementById('search').hidden = false;
filter.addEventListener('input', sift);
filter.addEventListener('keydown', (event) => {
  if (event.key !== 'Escape') return;
  filter.value = '';
  sift();
});
document.addEventListener('keydown', (event) => {
  if (event.key !== '/' || event.ctrlKey || event.metaKey || event.altKey || event.target.matches('input')) return;
  event.preventDefault();
  filter.focus();
});
addEventListener('hashchange', arrive);

tick();
sift();
arrive();
setInterval(tick, 1000);
listen();
