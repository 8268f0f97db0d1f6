// An answer's Markdown as HTML that cannot do anything.
//
// A model's text is a stranger's: HTML in it is shown as text, images become links (loading one would tell its
// owner that it was read), and what is left is sanitised.

import DOMPurify from 'dompurify';
import { Marked, type Tokens } from 'marked';

/**
 * A formula, which is shown as it was written: Markdown would take its backslashes, stars and underlines. One that has
 * not ended goes to the end of its paragraph, because the rest is still to come.
 */
const FORMULAS: RegExp[] = [
  /^\\\[(?:[\s\S]{0,4000}?\\\]|[^\n]*(?:\n[^\n]+)*)/,
  /^\\\((?:[\s\S]{0,4000}?\\\)|[^\n]*(?:\n[^\n]+)*)/,
  /^\$\$(?:[\s\S]{0,4000}?\$\$|[^\n]*(?:\n[^\n]+)*)/,
  /^\\begin\{([a-z]+\*?)\}(?:[\s\S]{0,4000}?\\end\{\1\}|[^\n]*(?:\n[^\n]+)*)/i,
  // Not money: nothing but a formula has a backslash, an index or a power between two dollars that stand close to it.
  /^\$(?![\s$])(?=[^$\n]{0,400}[\\_^*])[^$\n]{0,400}[^\s$]\$(?!\d)/,
];

function formula(src: string, forms = FORMULAS): { type: 'formula'; raw: string } | undefined {
  const found = forms.map((form) => form.exec(src)).find((match) => match !== null);
  return found ? { type: 'formula', raw: found[0] } : undefined;
}

/** Those that stand alone. */
const BLOCK_FORMULAS = FORMULAS.filter((_, n) => n !== 1 && n !== 4);

const marked = new Marked({
  extensions: [
    {
      name: 'formula',
      level: 'inline',
      start: (src) => src.search(/\$|\\[[(]|\\begin\{/),
      tokenizer: (src) => formula(src),
      renderer: ({ raw }) => `<span class="formula">${escape(raw)}</span>`,
    },
    {
      // Also with empty lines in it.
      name: 'formulas',
      level: 'block',
      start: (src) => /(?:^|\n) {0,3}(?:\\\[|\$\$|\\begin\{)/.exec(src)?.index,
      tokenizer(src) {
        const indent = /^ {0,3}/.exec(src)?.[0] ?? '';
        const found = formula(src.slice(indent.length), BLOCK_FORMULAS);
        const rest = found && src.slice(indent.length + found.raw.length);
        // Something else on its last line makes it part of a paragraph.
        if (!found || !/^[ \t]*[.,;]?[ \t]*(?:\n|$)/.test(rest ?? '')) return undefined;
        const end = /^[^\n]*\n*/.exec(rest ?? '')?.[0] ?? '';
        return { type: 'formulas', raw: indent + found.raw + end };
      },
      renderer: ({ raw }) => `<p class="formula">${escape(raw.trim())}</p>`,
    },
  ],
  gfm: true,
  breaks: false,
  renderer: {
    html: ({ text }) => escape(text),
    image: ({ href, text }) => `<a href="${escape(href)}">${escape(text || href)}</a>`,
    checkbox: ({ checked }) => (checked ? '\u2611 ' : '\u2610 '),
    code({ text, lang }) {
      const name = escape((lang ?? '').split(/\s/)[0] ?? '');
      return (
        `<div class="code"><div class="code-bar"><span>${name || 'text'}</span>` +
        `<button type="button" class="copy" data-copy>Copy</button></div>` +
        `<pre tabindex="0"><code>${escape(text)}</code></pre></div>`
      );
    },
    table({ header, rows }: Tokens.Table) {
      const cell = (tag: string) => (cell: Tokens.TableCell) =>
        `<${tag}${cell.align ? ` align="${cell.align}"` : ''}>${this.parser.parseInline(cell.tokens)}</${tag}>`;
      const head = `<tr>${header.map(cell('th')).join('')}</tr>`;
      const body = rows.map((row) => `<tr>${row.map(cell('td')).join('')}</tr>`).join('');
      return `<div class="wide" tabindex="0"><table><thead>${head}</thead><tbody>${body}</tbody></table></div>`;
    },
  },
});

/** A text as its paragraphs, lists and code blocks, in order: what is complete stays as it is while the rest comes. */
export function blocksOf(text: string): string[] {
  const tokens = marked.lexer(text);
  return tokens.filter((token) => token.type !== 'space').map((token) => token.raw);
}

/** One block as HTML. */
export function render(block: string): string {
  const html = marked.parse(block, { async: false });
  return DOMPurify.sanitize(html, {
    ALLOWED_TAGS: TAGS,
    ALLOWED_ATTR: ['href', ...PLAIN_ATTRIBUTES],
    ALLOW_DATA_ATTR: false,
    ALLOWED_URI_REGEXP: /^(?:https?|mailto):/i,
    ADD_URI_SAFE_ATTR: PLAIN_ATTRIBUTES,
  });
}

/** Attributes that lead nowhere. */
const PLAIN_ATTRIBUTES = ['title', 'class', 'tabindex', 'type', 'align', 'start', 'data-copy'];

const TAGS = [
  ...['p', 'br', 'hr', 'h1', 'h2', 'h3', 'h4', 'h5', 'h6', 'blockquote', 'ul', 'ol', 'li', 'pre', 'code'],
  ...['strong', 'em', 'del', 'a', 'table', 'thead', 'tbody', 'tr', 'th', 'td', 'div', 'span', 'button'],
];

// Links leave the window, and tell nobody where from.
DOMPurify.addHook('afterSanitizeAttributes', (node) => {
  if (node.tagName === 'A' && node.hasAttribute('href')) {
    node.setAttribute('target', '_blank');
    node.setAttribute('rel', 'noopener noreferrer');
  }
});

const ENTITIES: Record<string, string> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
  "'": '&#39;',
};

function escape(text: string): string {
  return text.replace(/[&<>"']/g, (character) => ENTITIES[character] ?? character);
}
