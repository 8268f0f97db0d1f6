import { describe, expect, it } from 'vitest';

import { blocksOf, render } from '../src/lib/markdown';

const html = (text: string) => blocksOf(text).map(render).join('').trim();

describe('an answer’s Markdown', () => {
  it('becomes paragraphs, lists and tables', () => {
    expect(html('**bold** and `code`')).toBe('<p><strong>bold</strong> and <code>code</code></p>');
    expect(html('1. a\n2. b')).toContain('<ol>');
    expect(html('| a | b |\n|---|--:|\n| 1 | 2 |')).toContain('<td align="right">2</td>');
  });

  it('has a copy button and the language on each code block, and its text is untouched', () => {
    const block = html('```rust\nlet x = a < b && c;\n```');
    expect(block).toContain('data-copy');
    expect(block).toContain('<span>rust</span>');
    expect(block).toContain('<code>let x = a &lt; b &amp;&amp; c;</code>');
  });

  it('is complete block by block while it comes in', () => {
    const text = 'One.\n\n- a\n- b\n\n```\ncode';
    expect(blocksOf(text)).toHaveLength(3);
    expect(blocksOf(`${text} more`).slice(0, 2)).toEqual(blocksOf(text).slice(0, 2));
  });
});

describe('a formula', () => {
  const shown = (text: string) => {
    const page = document.createElement('div');
    page.innerHTML = html(text);
    return { text: page.textContent?.trim(), html: page.innerHTML };
  };

  it.each([
    ['\\(a_1 + b_1\\) is a sum, \\(c^*\\) none'],
    ['\\[ \\frac{a}{b} \\\\ x_1 * y_1 * z \\]'],
    ['$$\\sum_{i=1}^{n} x_i\\,dx$$'],
    ['The root is $\\sqrt{x_1}$ and $x_2*y_2*z$.'],
    ['\\begin{align}\na &= b \\\\\nc_1 &= d_1\n\\end{align}'],
    ['\\[\nx = 1\n\n\\left\\{ y \\right\\}\n\\]'],
    ['so \\[x_1\\_y\\], and'],
  ])('is shown as it was written: %j', (text) => {
    expect(shown(text).text).toBe(text);
    expect(shown(text).html).not.toMatch(/<(em|strong|br)/);
  });

  it('that is still coming in keeps its backslashes too', () => {
    expect(shown('So \\(\\alpha_1 *b* ').text).toBe('So \\(\\alpha_1 *b*');
    expect(shown('\\[\n\\frac{1}').text).toBe('\\[\n\\frac{1}');
  });

  it('ends where it ends: what follows is Markdown again', () => {
    expect(html('\\(x\\) and **bold**')).toContain('<strong>bold</strong>');
    expect(html('\\[\nx\n\\]\n\n- a\n- b')).toContain('<ul>');
    expect(html('$$x$$\n\n**bold**')).toContain('<strong>bold</strong>');
  });

  it.each([
    ['It costs $5 and *that* is $6.', '<em>that</em>'],
    ['From $10_000 to *at most* $20_000', '<em>at most</em>'],
    ['`\\(x\\)` is code, *this* not', '<code>\\(x\\)</code>'],
    ['a \\* b *c*', 'a * b <em>c</em>'],
    ['```\n$$\n```\n\n*c*', '<em>c</em>'],
  ])('is nothing that looks like one: %j', (text, want) => {
    expect(html(text)).toContain(want);
  });

  it('can do no more than other text', () => {
    expect(html('\\[<img src=x onerror=alert(1)>\\]')).not.toContain('<img');
  });

  it('ends also where it begins thousands of times', () => {
    for (const begin of ['\\[', '\\(', '$$', '\\begin{a}', '$a_']) {
      for (const between of ['', '\n\n', ' ']) {
        const text = `${begin}${between}`.repeat(2000);
        expect(blocksOf(text).join('').replace(/\s/g, '')).toBe(text.replace(/\s/g, ''));
      }
    }
  }, 60_000);
});

describe('a stranger’s text', () => {
  const attacks = [
    '<script>alert(1)</script>',
    '<img src=x onerror=alert(1)>',
    '[x](javascript:alert(1))',
    '[x](JaVaScRiPt:alert(1))',
    '[x](data:text/html,<script>alert(1)</script>)',
    '![x](https://evil.example/pixel.png)',
    '<iframe src="https://evil.example"></iframe>',
    '<a href="x" onclick="alert(1)">x</a>',
    '```"><script>alert(1)</script>\nx\n```',
    '<form action="https://evil.example"><button>x</button></form>',
    '<style>*{display:none}</style>',
    '<svg><a xlink:href="javascript:alert(1)">x</a></svg>',
    '[x](https://a"onmouseover="alert(1))',
  ];

  it.each(attacks)('does nothing: %s', (text) => {
    const page = document.createElement('div');
    page.innerHTML = html(text);
    expect(page.querySelector('script, img, iframe, form, style, svg, object, embed')).toBeNull();
    for (const element of page.querySelectorAll('*')) {
      for (const { name, value } of element.attributes) {
        expect(name).not.toMatch(/^on/);
        expect(value).not.toMatch(/javascript:|^data:/i);
      }
    }
  });

  it('is shown as it is where it is HTML, and images are links', () => {
    expect(html('a <b>bold</b> word')).toContain('&lt;b&gt;');
    expect(html('![a cup](https://x.example/cup.png)')).toContain('<a href="https://x.example/cup.png"');
  });

  it('has links that leave the window and tell nobody where from', () => {
    expect(html('[x](https://x.example)')).toMatch(/target="_blank" rel="noopener noreferrer"/);
  });
});
