// Looks at the status page in a real browser. For each line on standard input, which names what to
// look at, it answers with a line of JSON. The arguments are the browser's path and the page's URL.

import { createInterface } from 'node:readline';
import { chromium } from 'playwright-core';

const [executablePath, url] = process.argv.slice(2);

const browser = await chromium.launch({
  executablePath,
  args: [
    '--disable-gpu', '--disable-dev-shm-usage', '--disable-background-networking', '--disable-component-update',
    // Whatever is not the page's own goes nowhere.
    '--proxy-server=127.0.0.1:9', '--proxy-bypass-list=127.0.0.1',
  ],
});
const seen = { console: [], hosts: [], failures: [], violations: [] };

// open opens the page as a reader would, noting all that the browser complains of.
async function open(options) {
  const context = await browser.newContext(options);
  const page = await context.newPage();
  page.on('console', (message) => seen.console.push(`${message.type()}: ${message.text()}`));
  page.on('pageerror', (error) => seen.console.push(String(error)));
  page.on('request', (request) => seen.hosts.push(new URL(request.url()).host));
  page.on('requestfailed', (request) => seen.failures.push(`${request.url()}: ${request.failure()?.errorText}`));
  page.on('response', (response) => {
    if (response.status() >= 400) seen.failures.push(`${response.url()}: ${response.status()}`);
  });
  await page.exposeFunction('violated', (text) => seen.violations.push(text));
  await page.addInitScript(() => {
    addEventListener('securitypolicyviolation', (event) => window.violated(`${event.violatedDirective}: ${event.blockedURI}`));
  });
  await page.goto(url, { waitUntil: 'load' });
  return page;
}

let page;
const looks = {
  // first is what a reader sees at once.
  async first() {
    page = await open({ viewport: { width: 1200, height: 900 }, colorScheme: 'light' });
    await page.evaluate(() => { window.unchanged = true; });
    return {
      title: await page.title(),
      tokens: await page.locator('.token').allInnerTexts(),
      acquired: await acquired(),
    };
  },
  // later waits for the clocks to have moved and for a refresh to show, without the page being loaded again.
  async later(since) {
    const now = page.locator('.now').first();
    const before = await now.getAttribute('cx');
    await page.waitForFunction((cx) => document.querySelector('.now').getAttribute('cx') !== cx, before);
    await page.waitForFunction((then) => document.querySelector('.token [data-since]').dataset.since !== then, since);
    return { unchanged: await page.evaluate(() => window.unchanged === true), acquired: await acquired() };
  },
  // words compares what the server writes with what the script makes of the same instants.
  async words() {
    return page.evaluate(async () => {
      const fresh = new DOMParser().parseFromString(await (await fetch('/')).text(), 'text/html');
      const now = Number(fresh.body.dataset.now);
      const differ = [];
      let compared = 0;
      for (const [kind, say] of Object.entries(words)) {
        for (const node of fresh.querySelectorAll(`[data-${kind}]`)) {
          compared++;
          const ours = say(Number(node.dataset[kind]) - now);
          if (ours !== node.textContent) differ.push(`${node.textContent}: ${ours}`);
        }
      }
      return { compared, differ };
    });
  },
  // shapes opens it in the dark and on a phone.
  async shapes() {
    const shape = async (options) => {
      const other = await open(options);
      const found = await other.evaluate(() => ({
        background: getComputedStyle(document.body).backgroundColor,
        width: document.documentElement.scrollWidth,
        inner: innerWidth,
      }));
      await other.context().close();
      return found;
    };
    return {
      light: await shape({ viewport: { width: 1200, height: 900 }, colorScheme: 'light' }),
      dark: await shape({ viewport: { width: 1200, height: 900 }, colorScheme: 'dark' }),
      phone: await shape({ viewport: { width: 320, height: 640 }, isMobile: true, hasTouch: true, colorScheme: 'dark' }),
    };
  },
  // many takes a picture of a page of many tokens, and tries its filter and its links.
  async many(argument) {
    const [width, colorScheme] = argument.split(' ');
    const phone = Number(width) < 600;
    const other = await open({ viewport: { width: Number(width), height: phone ? 844 : 900 }, colorScheme, isMobile: phone, hasTouch: phone });
    const png = (await other.screenshot({ type: 'png' })).toString('base64');
    const found = await other.evaluate(() => {
      const top = (selector) => document.querySelector(selector).getBoundingClientRect().top;
      return {
        width: document.documentElement.scrollWidth,
        inner: innerWidth,
        refused: top('.group a[href="#token-billing"]'),
        throttled: top('.group a[href="#token-reports"]'),
        order: [...document.querySelectorAll('.token')].map((node) => node.id),
        everything: document.querySelectorAll('.item').length,
      };
    });
    await other.keyboard.press('/');
    await other.keyboard.type('orders-us');
    const left = await other.locator('.item:visible').evaluateAll((nodes) => nodes.map((node) => node.id));
    await other.evaluate(() => { location.hash = '#token-mail-eu'; });
    await other.waitForFunction(() => document.getElementById('filter').value === '');
    const opened = await other.evaluate(() => document.getElementById('token-mail-eu').open);
    await other.context().close();
    return { png, ...found, filtered: left.length, named: left[0], opened };
  },
  // seen is what the browser complained of, and whom it talked to.
  async seen() {
    return { ...seen, hosts: [...new Set(seen.hosts)] };
  },
  // lost waits until the page says that nobody answers any more.
  async lost() {
    await page.waitForFunction(() => !document.getElementById('line').hidden);
    return { line: await page.locator('#line').innerText(), title: await page.title() };
  },
};

function acquired() {
  return page.locator('.token [data-since]').first().getAttribute('data-since');
}

for await (const line of createInterface({ input: process.stdin })) {
  const { look, argument } = JSON.parse(line);
  process.stdout.write(`${JSON.stringify(await looks[look](argument))}\n`);
}
await browser.close();
