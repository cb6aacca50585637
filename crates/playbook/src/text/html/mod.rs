//! From HTML to text, in one pass over the tokens.
//!
//! No tree is built and nothing is laid out, so neither depth nor spans nor widths of tables cost anything: time and memory
//! grow with the length of the HTML alone, and the text is at most twice as long as the HTML.

mod colors;
mod declared;
mod elements;
mod formatting;
mod hidden;
mod rules;
mod settings;
mod simple;
mod style;
mod tables;
mod tag;
mod tree;
mod values;

use std::convert::Infallible;

use html5gum::{
    Emitter, ForwardingEmitter, Span, State, Tokenizer,
    emitters::callback::{Callback, CallbackEmitter, CallbackEvent},
};

pub(super) use elements::has_tags;
use elements::{Category, Element, Gap};
use settings::{Setting, Settings};
use tag::Tag;
use tree::{ElementId, Tree};

/// The number up to which the items of a list are numbered. A longer number would be longer than the tag that it stands for.
const MAX_ITEM_NUMBER: usize = 999;

/// The text that a person sees of `html`: a line for each block and each cell of a table, a blank line between paragraphs,
/// `> ` before what is quoted, `* ` or a number before an item of a list.
pub(super) fn text_of(html: &str) -> String {
    simple::text_of(html).unwrap_or_else(|| whole_text_of(html))
}

/// The same for all of HTML.
fn whole_text_of(html: &str) -> String {
    // The tokenizer replaces U+0000 by a character that is three bytes long.
    let html = html.replace('\0', "");
    let mut page = Page::default();
    match Tokenizer::new_with_emitter(&html, PageEmitter(CallbackEmitter::new(PageReader(&mut page)))).finish() {
        Ok(()) => page.shown(),
    }
}

/// Gives the tokens to a page. Which elements contain text without tags depends on where they are.
struct PageEmitter<'a>(CallbackEmitter<PageReader<'a>>);

impl ForwardingEmitter for PageEmitter<'_> {
    type Token = Infallible;

    fn inner(&mut self) -> &mut impl Emitter<Token = Infallible> {
        &mut self.0
    }

    fn emit_current_tag(&mut self) -> Option<State> {
        // The callback emits nothing and switches nothing.
        self.0.emit_current_tag().or(self.0.callback_mut().0.next_state.take())
    }

    fn adjusted_current_node_present_but_not_in_html_namespace(&mut self) -> bool {
        self.0.callback_mut().0.tree.is_in_foreign()
    }
}

struct PageReader<'a>(&'a mut Page);

impl Callback<Infallible, ()> for PageReader<'_> {
    fn handle_event(&mut self, event: CallbackEvent<'_>, _: Span<()>) -> Option<Infallible> {
        self.0.handle(&event);
        None
    }
}

/// The elements that are open, and what has been read.
#[derive(Default)]
struct Page {
    tree: Tree,
    /// All text, hidden or not.
    text: String,
    parts: Vec<Part>,
    /// The item of a list whose mark no text has followed.
    marked: Option<ElementId>,
    /// What the tags of the elements `html` and `body` say, which may come late and more than once.
    roots: [Tag; 2],
    /// A style sheet says what is behind text.
    has_styled_background: bool,
    /// The start tag that is being read.
    tag: Tag,
    /// How the tokenizer goes on after it.
    next_state: Option<State>,
}

/// What becomes a part of the text. Whether it is seen is known at the end: tags may move what came before them.
enum Part {
    /// So many bytes of text, and the element that they are in.
    Text(ElementId, usize),
    Gap(Gap),
    LineBreak,
    /// The mark of a list's item; 0: it has no number.
    Mark(usize),
    /// The item has ended.
    NoMark,
}

impl Page {
    fn handle(&mut self, event: &CallbackEvent<'_>) {
        match *event {
            CallbackEvent::OpenStartTag { name } => self.tag = Tag::named(name),
            CallbackEvent::AttributeName { name } => self.tag.begin_attribute(name),
            CallbackEvent::AttributeValue { value } => self.tag.set_value(value),
            CallbackEvent::CloseStartTag { self_closing } => {
                let mut tag = std::mem::take(&mut self.tag);
                tag.end_attribute();
                tag.is_self_closing = self_closing;
                self.start(tag);
            }
            CallbackEvent::EndTag { name } => self.end(name),
            CallbackEvent::String { value } => self.read_text(&String::from_utf8_lossy(value)),
            _ => {}
        }
    }

    fn start(&mut self, tag: Tag) {
        let Element { gap, category } = Element::named(&tag.name);
        let begun = self.tree.start(&tag);
        self.separate(gap, category, usize::from(begun.is_some()));
        if let Some(id) = begun {
            if category == Category::Item {
                self.marked = Some(id);
                self.parts.push(Part::Mark(self.tree.next_item().unwrap_or_default()));
            }
            self.next_state = content_of(&tag.name);
        }
        match tag.name.as_slice() {
            b"html" => self.complete_root(0, tag),
            b"body" => self.complete_root(1, tag),
            // What a style sheet says is not known.
            b"link" => {
                let relation = tag.get(b"rel").unwrap_or_default().to_ascii_lowercase();
                self.has_styled_background |= relation.contains("stylesheet");
            }
            _ => {}
        }
    }

    fn end(&mut self, name: &[u8]) {
        let Element { gap, category } = Element::named(name);
        self.tree.end(name);
        self.separate(gap, category, 0);
    }

    /// A list within a list is no paragraph of its own; `begun`: how many lists begin here.
    fn separate(&mut self, gap: Gap, category: Category, begun: usize) {
        match category {
            Category::LineBreak => self.parts.push(Part::LineBreak),
            Category::List { .. } if self.tree.open_lists(begun + 1) > begun => self.parts.push(Part::Gap(Gap::Line)),
            _ => self.parts.push(Part::Gap(gap)),
        }
    }

    /// The attributes of `html` and `body` hold for all of the page, wherever the tag is.
    fn complete_root(&mut self, root: usize, tag: Tag) {
        if !self.tree.is_in_template() {
            self.roots[root].name.clone_from(&tag.name);
            self.roots[root].complete_with(tag);
        }
    }

    fn read_text(&mut self, text: &str) {
        let is_blank = text.bytes().all(|byte| byte.is_ascii_whitespace());
        let element = self.tree.text(is_blank);
        self.has_styled_background |= self.tree.is_current(&[b"style"]) && text.contains("background");
        if self.marked.is_some_and(|item| !self.tree.is_open(item)) {
            self.marked = None;
            self.parts.push(Part::NoMark);
        }
        self.text.push_str(text);
        self.parts.push(Part::Text(element, text.len()));
    }

    /// What a person sees.
    fn shown(mut self) -> String {
        let [html, body] = &self.roots;
        self.tree.set_roots(html, body);
        let mut page = Setting::default();
        if self.has_styled_background {
            page.look.forget_background();
        }
        let mut settings = Settings::of(self.tree, page);
        let (mut writer, mut rest) = (Writer::default(), self.text.as_str());
        for part in self.parts {
            match part {
                Part::Text(element, length) => {
                    let (text, after) = rest.split_at(length);
                    rest = after;
                    writer.write(text, &settings.within(element));
                }
                Part::Gap(gap) => writer.widen(gap),
                Part::LineBreak => writer.break_line(),
                Part::Mark(number) => writer.mark = Some(number),
                Part::NoMark => writer.mark = None,
            }
        }
        writer.text
    }
}

/// Writes what is seen.
#[derive(Default)]
struct Writer {
    text: String,
    /// What separates the next character from the text so far.
    gap: Gap,
    /// The number of a list's item whose text has not begun; 0: it has none.
    mark: Option<usize>,
}

impl Writer {
    /// The second line break in a row makes a blank line.
    fn break_line(&mut self) {
        self.gap = if self.gap < Gap::Line { Gap::Line } else { Gap::Paragraph };
    }

    fn widen(&mut self, gap: Gap) {
        self.gap = self.gap.max(gap);
    }

    fn write(&mut self, text: &str, setting: &Setting) {
        if setting.look.is_hidden() {
            return;
        }
        for character in text.chars() {
            match character {
                '\n' if setting.is_preformatted => self.break_line(),
                ' ' | '\t' if setting.is_preformatted && self.gap == Gap::None && !self.text.is_empty() => {
                    self.text.push(character);
                }
                '\t' | '\n' | '\u{c}' | '\r' | ' ' | '\u{a0}' => self.widen(Gap::Space),
                _ => {
                    self.close_gap(setting.is_quoted);
                    self.text.push(character);
                }
            }
        }
    }

    fn close_gap(&mut self, is_quoted: bool) {
        let is_first = self.text.is_empty();
        let begins_line = is_first || self.gap >= Gap::Line;
        if !is_first {
            self.text.push_str(match self.gap {
                Gap::None => "",
                Gap::Space => " ",
                Gap::Line => "\n",
                Gap::Paragraph => "\n\n",
            });
        }
        self.gap = Gap::None;
        if begins_line && is_quoted {
            self.text.push_str("> ");
        }
        match self.mark.take() {
            Some(number @ 1..=MAX_ITEM_NUMBER) => self.text.push_str(&format!("{number}. ")),
            Some(_) => self.text.push_str("* "),
            None => {}
        }
    }
}

/// How the content of an element is read, where it is not HTML.
fn content_of(name: &[u8]) -> Option<State> {
    match name {
        b"textarea" | b"title" => Some(State::RcData),
        b"plaintext" => Some(State::PlainText),
        b"script" => Some(State::ScriptData),
        b"style" | b"iframe" | b"xmp" | b"noembed" | b"noframes" | b"noscript" => Some(State::RawText),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::text_of;

    #[test]
    fn blocks_are_lines_and_paragraphs_have_a_blank_line_between_them() {
        let html =
            "<div>Dear team,</div><div><br></div><div>first <b>bold</b>\n  word</div>second<p>third</p>fourth<br>fifth";
        assert_eq!(text_of(html), "Dear team,\n\nfirst bold word\nsecond\n\nthird\n\nfourth\nfifth");
        assert_eq!(text_of("<table><tr><td>Budget</td><td>&euro;&nbsp;25,000</td></tr></table>"), "Budget\n€ 25,000");
        assert_eq!(text_of("a<pre>one\n\n  two</pre>b"), "a\n\none\n\ntwo\n\nb");
    }

    #[test]
    fn lists_and_quotations_are_marked() {
        let html = "Wants:<ul><li>a quote<li>a demo<ol><li></li><li><b></b>soon</ol></ul>";
        assert_eq!(text_of(html), "Wants:\n\n* a quote\n* a demo\n2. soon");
        let html = "Yes.<blockquote>Will you?<br>Mia<blockquote>No.</blockquote></blockquote>Jon";
        assert_eq!(text_of(html), "Yes.\n\n> Will you?\n> Mia\n\n> No.\n\nJon");
    }

    #[test]
    fn what_nobody_sees_is_no_text() {
        let html = "<html><head><title>Mail</title><style>p { color: red }</style></head><body>seen\
            <script>a < b</script><!-- c --><template>d</template><svg><text>e</text></svg><iframe>f</iframe>\
            <p style=\"display:none\">g<span>h</span></p><p hidden>i</p><span style=visibility:hidden>j</span>\
            <img alt=k> too</body></html>";
        assert_eq!(text_of(html), "seen\n\ntoo");
    }

    /// What ends the hiding in the text ends it on the screen, too.
    #[test]
    fn hiding_ends_where_a_browser_ends_it() {
        const SEEN: &[&str] = &[
            "<p style=display:none>no<p>yes",
            "<p style=display:none>no<div>yes</div>",
            "<table><tr><td style=display:none>no<td>yes",
            "<div style=display:none><b>no</div>yes",
            "<div style=display:none><table><tr><td>no</td></tr></table></div>yes",
            "<span style=display:none>no</span>yes",
            "<ul><li hidden>no<li>yes</ul>",
            "<svg/>yes",
            "<td style=font-size:0><div style=font-size:13px>yes</div></td>",
        ];
        for html in SEEN {
            assert!(text_of(html).ends_with("yes"), "{html}");
            assert!(!text_of(html).contains("no"), "{html}");
        }
        const HIDDEN: &[&str] = &[
            "<b><p style=display:none></b>no</p>",
            "<span><div style=display:none></span>no</div>",
            "<div style=display:none><table><tr><td></div>no",
            "<body style=display:none></body>no",
            "<p style=display:none><unknown></p-></unknown>no",
            "<div/style=display:none>no",
        ];
        for html in HIDDEN {
            assert_eq!(text_of(html), "", "{html}");
        }
    }
}
