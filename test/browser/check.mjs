// Opens URLs in Chromium at several widths, in light and dark mode. Prints a line of
// JSON with the problems of each: a page wider than its viewport, a violation found
// by axe-core, or a search that does not work without JavaScript.
//
//   node check.mjs --browser=/usr/bin/chromium [--screenshots=DIR] URL...
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { parseArgs } from 'node:util';
import { chromium } from 'playwright-core';

const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const { values: { browser: executablePath, screenshots }, positionals: urls } = parseArgs({
  options: { browser: { type: 'string' }, screenshots: { type: 'string' } }, allowPositionals: true,
});

const browser = await chromium.launch({
  executablePath,
  args: ['--headless', '--no-sandbox', '--disable-gpu', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'],
});
// The page's content security policy would block axe-core.
const page = await browser.newPage({ bypassCSP: true });
const plain = await browser.newPage({ javaScriptEnabled: false });
for (const url of urls) {
  await plain.goto(url);
  const broken = [];
  if (await plain.locator('#q').count()) {
    await plain.locator('#q').fill('nothing of this name');
    await plain.locator('form button').click();
    await plain.waitForURL(/q=nothing\+of\+this\+name/, { timeout: 10000 }).catch(() => broken.push('the search does not submit'));
  }
  const response = await page.goto(url);
  await page.evaluate(axe);
  for (const [width, colorScheme] of [[390, 'light'], [390, 'dark'], [1280, 'dark'], [1280, 'light']]) {
    await page.setViewportSize({ width, height: 900 });
    await page.emulateMedia({ colorScheme });
    const problems = [...broken];
    if (response.status() !== 200) problems.push(`status ${response.status()}`);
    const size = await page.evaluate(() => ({
      width: document.documentElement.scrollWidth,
      height: document.documentElement.scrollHeight,
      background: getComputedStyle(document.body).backgroundColor,
      scripts: document.scripts.length,
    }));
    if (size.width !== width) problems.push(`scrollWidth is ${size.width}, want ${width}`);
    if (size.scripts) problems.push(`${size.scripts} scripts`);
    if ((width === 390) === (colorScheme === 'dark')) {
      // Each width and each color scheme once, because axe-core takes seconds.
      const { violations } = await page.evaluate(() => globalThis.axe.run());
      for (const v of violations) problems.push(`${v.id}: ${v.help}: ${v.nodes.slice(0, 3).map((n) => n.html.slice(0, 160)).join(' | ')}`);
    }
    if (screenshots) {
      const name = new URL(url).search.replace(/\W+/g, '-') || '-front';
      await page.screenshot({ path: `${screenshots}/${width}-${colorScheme}${name}.png`, fullPage: true });
    }
    console.log(JSON.stringify({ url, width, colorScheme, height: size.height, background: size.background, problems }));
  }
}
await browser.close();
