// Characters that show nothing, or turn the text around them: controls, spaces of no
// width, marks and overrides of direction. Joiners stay: scripts and emoji need them.
const hidden = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]|[\u{e0000}-\u{e007f}]/gu;

const code = (char: string) => (char.codePointAt(0) ?? 0).toString(16).toUpperCase().padStart(4, "0");

/** A text of somebody else's, in which what shows nothing or turns text around is named, as ⟨U+202E⟩. */
export function plain(text: string): string {
  return text.replace(hidden, (char) => `⟨U+${code(char)}⟩`);
}

/** JSON that says the same, and in which such characters are escaped. */
export function plainJson(json: string): string {
  return json.replace(hidden, (char) => Array.from({ length: char.length }, (_, i) => `\\u${char.charCodeAt(i).toString(16).padStart(4, "0")}`).join(""));
}

/** A name as one can type it: without what plain names, and with single spaces. */
export function typed(name: string): string {
  return name.replace(/⟨U\+[0-9A-F]{4,6}⟩/g, "").replace(hidden, "").normalize("NFC").replace(/\s+/g, " ").trim();
}

/** A text in which halves of characters, which nothing can send, are replaced. */
export function wellFormed(text: string): string {
  return text.replace(/\p{Surrogate}/gu, "\ufffd");
}
