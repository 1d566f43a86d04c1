// Where messages are written: drafts for each conversation, an answer to a message, a new text for an old one.

import { $, setText } from './dom.js';

export class Composer {
  #key = null;
  #drafts;
  #about = null; // {mode: 'reply' or 'edit', message}
  #kept = ''; // what was being written when an edit began
  #on;

  /** `on`: send(text, ref), edit(message, text), typing(), paused(), editLast(), up(), keepDrafts(drafts); `drafts`: texts by key. */
  constructor(on, drafts) {
    this.#on = on;
    this.#drafts = drafts;
    $('composer').addEventListener('submit', (event) => {
      event.preventDefault();
      this.#submit();
    });
    $('text').addEventListener('input', () => {
      this.#fit();
      if (this.#about?.mode === 'edit') return;
      this.#keep();
      if ($('text').value.trim()) on.typing();
      else on.paused();
    });
    $('text').addEventListener('keydown', (event) => this.#key_(event));
    $('about-cancel').addEventListener('click', () => this.cancel());
  }

  #key_(event) {
    if (event.isComposing) return;
    if (event.key === 'Enter' && !event.shiftKey) {
      event.preventDefault();
      this.#submit();
    } else if (event.key === 'Escape' && this.#about) {
      event.stopPropagation();
      this.cancel();
    } else if (event.key === 'ArrowUp' && $('text').value === '' && !this.#about) {
      event.preventDefault();
      if (event.shiftKey) this.#on.up();
      else this.#on.editLast();
    }
  }

  open(key) {
    this.cancel({ focus: false });
    this.#key = key;
    $('text').value = this.#drafts.get(key) ?? '';
    this.#fit();
    if (key !== null && matchMedia('(hover: hover)').matches) $('text').focus();
  }

  reply(message, name, words) {
    this.cancel();
    this.#begin('reply', message, `Answer to ${name}`, words);
  }

  edit(message) {
    this.cancel();
    this.#kept = $('text').value;
    $('text').value = message.text;
    this.#begin('edit', message, 'Edit message', message.text);
    $('text').setSelectionRange(message.text.length, message.text.length);
  }

  #begin(mode, message, title, words) {
    this.#about = { mode, message };
    setText($('about-title'), title);
    setText($('about-words'), words);
    $('about').hidden = false;
    $('about').dataset.mode = mode;
    $('send').setAttribute('aria-label', mode === 'edit' ? 'Save' : 'Send');
    this.#fit();
    $('text').focus();
  }

  cancel({ focus = true } = {}) {
    if (!this.#about) return;
    if (this.#about.mode === 'edit') $('text').value = this.#kept;
    this.#about = null;
    this.#kept = '';
    $('about').hidden = true;
    $('send').setAttribute('aria-label', 'Send');
    this.#fit();
    if (focus) $('text').focus();
  }

  #submit() {
    const text = $('text').value.trim();
    if (!text) return;
    const about = this.#about;
    const taken = about?.mode === 'edit' ? this.#on.edit(about.message, text) : this.#on.send(text, about?.message.seq ?? 0);
    if (!taken) return;
    this.#about = null;
    $('about').hidden = true;
    $('send').setAttribute('aria-label', 'Send');
    $('text').value = about?.mode === 'edit' ? this.#kept : '';
    this.#kept = '';
    this.#keep();
    this.#fit();
    $('text').focus();
  }

  #keep() {
    if ($('text').value) this.#drafts.set(this.#key, $('text').value);
    else this.#drafts.delete(this.#key);
    this.#on.keepDrafts(this.#drafts);
  }

  /** The text grows up to a third of the window. */
  #fit() {
    const text = $('text');
    $('send').disabled = text.value.trim() === '';
    text.style.height = 'auto';
    text.style.height = `${Math.min(text.scrollHeight + 2, innerHeight / 3)}px`;
  }
}
