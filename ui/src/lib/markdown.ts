// An answer's Markdown as HTML that cannot do anything.
//
// A model's text is a stranger's: HTML in it is shown as text, images become links (loading one would tell its
// owner that it was read), and what is left is sanitised.

import DOMPurify from 'dompurify';
import { Marked, type Tokens } from 'marked';

const marked = new Marked({
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
