//! From HTML to text, in one pass over the tokens.
//!
//! No tree is built and nothing is laid out, so neither depth nor spans nor widths of tables cost anything: time and memory
//! grow with the length of the HTML alone, and the text is at most twice as long as the HTML.

use std::convert::Infallible;

use html5gum::{
    Span, Tokenizer,
    emitters::callback::{CallbackEmitter, CallbackEvent},
};

use super::{
    elements::{Category, Element, Gap, is_ended_by_start, shields},
    hidden::Hidden,
};

/// How many of the innermost open elements an end tag is matched with. In more deeply nested HTML it ends none of those
/// further out.
const MAX_SEARCHED: usize = 256;

/// The number up to which the items of a list are numbered. A longer number would be longer than the tag that it stands for.
const MAX_ITEM_NUMBER: usize = 999;

/// The text that a person sees of `html`: a line for each block and each cell of a table, a blank line between paragraphs,
/// `> ` before what is quoted, `* ` or a number before an item of a list.
pub(super) fn text_of(html: &str) -> String {
    // The tokenizer replaces U+0000 by a character that is three bytes long.
    let html = html.replace('\0', "");
    let mut page = Page::default();
    let mut emitter = CallbackEmitter::new(|event: CallbackEvent<'_>, _: Span<()>| {
        page.handle(&event);
        None::<Infallible>
    });
    emitter.naively_switch_states(true);
    match Tokenizer::new_with_emitter(&html, emitter).finish() {
        Ok(()) => page.text,
    }
}

/// The text so far, and the elements that are open.
#[derive(Default)]
struct Page {
    text: String,
    /// What separates the next character from the text so far.
    gap: Gap,
    /// The mark of a list's item whose text has not begun.
    mark: Option<Mark>,
    open: Vec<Open>,
    /// The lists among the open elements.
    lists: Vec<List>,
    tag: Tag,
}

/// An element that has begun and not ended.
struct Open {
    name: Box<[u8]>,
    hidden: Hidden,
    is_quoted: bool,
    is_preformatted: bool,
}

struct List {
    /// How many elements are open with it.
    depth: usize,
    is_numbered: bool,
    items: usize,
}

struct Mark {
    /// How many elements are open around the item.
    depth: usize,
    text: String,
}

/// The start tag that is being read.
#[derive(Default)]
struct Tag {
    name: Vec<u8>,
    style: Option<String>,
    has_hidden: bool,
    attribute: Attribute,
}

#[derive(Default, PartialEq, Eq)]
enum Attribute {
    Style,
    #[default]
    Other,
}

impl Page {
    fn handle(&mut self, event: &CallbackEvent<'_>) {
        match *event {
            CallbackEvent::OpenStartTag { name } => {
                self.tag = Tag { name: name.to_vec(), ..Tag::default() };
            }
            CallbackEvent::AttributeName { name } => {
                self.tag.has_hidden |= name == b"hidden";
                // Of two attributes with one name the first counts.
                let is_style = name == b"style" && self.tag.style.is_none();
                self.tag.attribute = if is_style { Attribute::Style } else { Attribute::Other };
            }
            CallbackEvent::AttributeValue { value } if self.tag.attribute == Attribute::Style => {
                self.tag.style = Some(String::from_utf8_lossy(value).into_owned());
            }
            CallbackEvent::CloseStartTag { self_closing } => self.start(self_closing),
            CallbackEvent::EndTag { name } => self.end(name),
            CallbackEvent::String { value } => self.write(&String::from_utf8_lossy(value)),
            _ => {}
        }
    }

    fn start(&mut self, is_self_closing: bool) {
        let Tag { name, style, has_hidden, .. } = std::mem::take(&mut self.tag);
        if let Some(at) = self.innermost(|open| is_ended_by_start(open, &name)) {
            self.close_from(at);
        }
        let Element { gap, category } = Element::named(&name);
        self.widen(self.within_list(gap, category));
        match category {
            Category::Void => return,
            Category::LineBreak => return self.break_line(),
            // The root of a drawing may be empty; every other tag that looks so is a start tag.
            Category::NotText if is_self_closing => return,
            Category::List { is_numbered } => {
                self.lists.push(List { depth: self.open.len(), is_numbered, items: 0 });
            }
            Category::Item => self.begin_item(),
            _ => {}
        }
        let around = self.open.last();
        let hidden = match category {
            Category::NotText => Hidden::entirely(),
            _ => around.map(|open| open.hidden).unwrap_or_default().within(style.as_deref(), has_hidden),
        };
        self.open.push(Open {
            hidden,
            is_quoted: category == Category::Quotation || around.is_some_and(|open| open.is_quoted),
            is_preformatted: category == Category::Preformatted || around.is_some_and(|open| open.is_preformatted),
            name: name.into_boxed_slice(),
        });
    }

    fn end(&mut self, name: &[u8]) {
        let Element { gap, category } = Element::named(name);
        match name {
            b"br" => return self.break_line(),
            // A browser goes on in the body after its end.
            b"html" | b"body" => return,
            _ => {}
        }
        // The end of a word's formatting ends no block, and so never the hiding of one.
        let found =
            self.innermost(|open| if open == name { Some(true) } else { (!shields(open, name)).then_some(false) });
        if let Some(at) = found {
            self.close_from(at);
        }
        self.widen(self.within_list(gap, category));
    }

    /// A list within a list is no paragraph of its own.
    fn within_list(&self, gap: Gap, category: Category) -> Gap {
        let is_inner = matches!(category, Category::List { .. }) && !self.lists.is_empty();
        if is_inner { Gap::Line } else { gap }
    }

    /// The innermost open element for which `is_sought` is true, unless it is `None` for one within that.
    fn innermost(&self, is_sought: impl Fn(&[u8]) -> Option<bool>) -> Option<usize> {
        for (at, open) in self.open.iter().enumerate().rev().take(MAX_SEARCHED) {
            if is_sought(&open.name)? {
                return Some(at);
            }
        }
        None
    }

    /// Ends the elements from the one at this depth inwards.
    fn close_from(&mut self, depth: usize) {
        self.open.truncate(depth);
        while self.lists.last().is_some_and(|list| list.depth >= depth) {
            self.lists.pop();
        }
        self.mark.take_if(|mark| mark.depth >= depth);
    }

    fn begin_item(&mut self) {
        let text = match self.lists.last_mut() {
            Some(list) if list.is_numbered && list.items < MAX_ITEM_NUMBER => {
                list.items += 1;
                format!("{}. ", list.items)
            }
            _ => "* ".to_owned(),
        };
        self.mark = Some(Mark { depth: self.open.len(), text });
    }

    /// The second line break in a row makes a blank line.
    fn break_line(&mut self) {
        self.gap = if self.gap < Gap::Line { Gap::Line } else { Gap::Paragraph };
    }

    fn widen(&mut self, gap: Gap) {
        self.gap = self.gap.max(gap);
    }

    fn write(&mut self, text: &str) {
        let around = self.open.last();
        if around.is_some_and(|open| open.hidden.is_hidden()) {
            return;
        }
        let is_preformatted = around.is_some_and(|open| open.is_preformatted);
        for character in text.chars() {
            match character {
                '\n' if is_preformatted => self.break_line(),
                ' ' | '\t' if is_preformatted && self.gap == Gap::None && !self.text.is_empty() => {
                    self.text.push(character);
                }
                '\t' | '\n' | '\u{c}' | '\r' | ' ' | '\u{a0}' => self.widen(Gap::Space),
                _ => {
                    self.close_gap();
                    self.text.push(character);
                }
            }
        }
    }

    fn close_gap(&mut self) {
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
        if begins_line && self.open.last().is_some_and(|open| open.is_quoted) {
            self.text.push_str("> ");
        }
        if let Some(mark) = self.mark.take() {
            self.text.push_str(&mark.text);
        }
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
            "<tr><td style=display:none>no<td>yes",
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
