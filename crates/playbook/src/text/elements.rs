//! What the text needs to know of HTML's elements: which break the line, which have no content, and which end others.
//! Source: the HTML standard, <https://html.spec.whatwg.org/multipage/parsing.html> and
//! <https://html.spec.whatwg.org/multipage/rendering.html>.

/// White space between two texts.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Gap {
    #[default]
    None,
    Space,
    Line,
    Paragraph,
}

/// What an element means for the text within it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Category {
    /// It never has content.
    Void,
    /// `<br>`, which has no content either.
    LineBreak,
    List {
        is_numbered: bool,
    },
    /// An item of a list.
    Item,
    Quotation,
    /// White space and line breaks count.
    Preformatted,
    /// Its content is no text for people: scripts, drawings, what is shown where something else cannot be.
    NotText,
    Other,
}

/// An element by its name.
#[derive(Debug, Clone, Copy)]
pub(super) struct Element {
    /// The white space before and after it.
    pub(super) gap: Gap,
    pub(super) category: Category,
}

impl Element {
    pub(super) fn named(name: &[u8]) -> Self {
        let (gap, category) = match name {
            b"br" => (Gap::None, Category::LineBreak),
            b"hr" => (Gap::Paragraph, Category::Void),
            b"area" | b"base" | b"col" | b"embed" | b"img" | b"input" | b"link" | b"meta" | b"param" | b"source"
            | b"track" | b"wbr" => (Gap::None, Category::Void),
            b"ul" | b"menu" | b"dir" => (Gap::Paragraph, Category::List { is_numbered: false }),
            b"ol" => (Gap::Paragraph, Category::List { is_numbered: true }),
            b"li" => (Gap::Line, Category::Item),
            b"blockquote" => (Gap::Paragraph, Category::Quotation),
            b"pre" | b"listing" | b"xmp" | b"plaintext" | b"textarea" => (Gap::Paragraph, Category::Preformatted),
            b"script" | b"style" | b"template" | b"title" | b"noscript" | b"noembed" | b"noframes" | b"iframe"
            | b"object" | b"audio" | b"video" | b"canvas" | b"svg" | b"math" | b"datalist" => {
                (Gap::None, Category::NotText)
            }
            b"p" | b"h1" | b"h2" | b"h3" | b"h4" | b"h5" | b"h6" | b"dl" | b"table" | b"figure" => {
                (Gap::Paragraph, Category::Other)
            }
            _ if is_special(name) => (Gap::Line, Category::Other),
            _ => (Gap::None, Category::Other),
        };
        Self { gap, category }
    }
}

/// Whether an element is more than the formatting of words, so that the end tag of formatting does not end it.
pub(super) fn is_special(name: &[u8]) -> bool {
    matches!(
        name,
        b"address"
            | b"article"
            | b"aside"
            | b"audio"
            | b"blockquote"
            | b"body"
            | b"button"
            | b"canvas"
            | b"caption"
            | b"center"
            | b"colgroup"
            | b"datalist"
            | b"dd"
            | b"details"
            | b"dialog"
            | b"dir"
            | b"div"
            | b"dl"
            | b"dt"
            | b"fieldset"
            | b"figcaption"
            | b"figure"
            | b"footer"
            | b"form"
            | b"frameset"
            | b"h1"
            | b"h2"
            | b"h3"
            | b"h4"
            | b"h5"
            | b"h6"
            | b"head"
            | b"header"
            | b"hgroup"
            | b"html"
            | b"iframe"
            | b"legend"
            | b"li"
            | b"listing"
            | b"main"
            | b"marquee"
            | b"math"
            | b"menu"
            | b"nav"
            | b"noembed"
            | b"noframes"
            | b"noscript"
            | b"object"
            | b"ol"
            | b"optgroup"
            | b"option"
            | b"p"
            | b"plaintext"
            | b"pre"
            | b"script"
            | b"search"
            | b"section"
            | b"select"
            | b"style"
            | b"summary"
            | b"svg"
            | b"table"
            | b"tbody"
            | b"td"
            | b"template"
            | b"textarea"
            | b"tfoot"
            | b"th"
            | b"thead"
            | b"title"
            | b"tr"
            | b"ul"
            | b"video"
            | b"xmp"
    )
}

/// Whether no end tag within the open element `around` may end the element `ended` outside of it.
pub(super) fn shields(around: &[u8], ended: &[u8]) -> bool {
    match ended {
        b"table" | b"tbody" | b"thead" | b"tfoot" | b"tr" | b"td" | b"th" | b"caption" => {
            matches!(around, b"table" | b"template" | b"html")
        }
        _ if is_special(ended) => matches!(
            around,
            b"table" | b"td" | b"th" | b"caption" | b"template" | b"html" | b"object" | b"marquee" | b"button"
        ),
        _ => is_special(around),
    }
}

/// Whether the start of the element `started` ends the open element `open`, as that of a row ends the row before it; `None`:
/// it does not, and nothing around `open` either.
pub(super) fn is_ended_by_start(open: &[u8], started: &[u8]) -> Option<bool> {
    let (ended, boundary): (&[&[u8]], &[&[u8]]) = match started {
        b"li" => (&[b"li"], &[b"ul", b"ol", b"menu", b"dir", b"td", b"th", b"table"]),
        b"dd" | b"dt" => (&[b"dd", b"dt"], &[b"dl", b"td", b"th", b"table"]),
        b"tr" => (&[b"tr"], &[b"table"]),
        b"td" | b"th" => (&[b"td", b"th"], &[b"tr", b"table"]),
        b"tbody" | b"thead" | b"tfoot" => (&[b"tbody", b"thead", b"tfoot"], &[b"table"]),
        b"option" | b"optgroup" => (&[b"option"], &[b"select"]),
        _ if is_special(started) => {
            return if open == b"p" { Some(true) } else { (!is_special(open)).then_some(false) };
        }
        _ => return None,
    };
    if ended.contains(&open) { Some(true) } else { (!boundary.contains(&open)).then_some(false) }
}

/// The elements by which a text shows that it is HTML.
const TELLING: [&[u8]; 48] = [
    b"a",
    b"b",
    b"big",
    b"blockquote",
    b"body",
    b"br",
    b"center",
    b"code",
    b"dd",
    b"del",
    b"div",
    b"dl",
    b"dt",
    b"em",
    b"font",
    b"h1",
    b"h2",
    b"h3",
    b"h4",
    b"h5",
    b"h6",
    b"head",
    b"hr",
    b"html",
    b"i",
    b"img",
    b"ins",
    b"li",
    b"meta",
    b"ol",
    b"p",
    b"pre",
    b"s",
    b"small",
    b"span",
    b"strike",
    b"strong",
    b"style",
    b"sub",
    b"sup",
    b"table",
    b"tbody",
    b"td",
    b"th",
    b"tr",
    b"tt",
    b"u",
    b"ul",
];

/// Whether `text` contains the tag of an element that people format texts with. `<mia@example.com>` and
/// `<code 42, not recoverable>` are none.
pub(super) fn has_tags(text: &str) -> bool {
    let bytes = text.as_bytes();
    let length_of = |bytes: &[u8], is_part: fn(&u8) -> bool| bytes.iter().take_while(|byte| is_part(byte)).count();
    let is_name = |byte: &u8| byte.is_ascii_alphanumeric();
    bytes.iter().enumerate().filter(|(_, byte)| **byte == b'<').any(|(at, _)| {
        let rest = &bytes[at + 1..];
        let rest = rest.strip_prefix(b"/").unwrap_or(rest);
        // No name is longer than `blockquote`.
        let name = &rest[..length_of(&rest[..rest.len().min(11)], is_name)];
        if !TELLING.contains(&name.to_ascii_lowercase().as_slice()) {
            return false;
        }
        let rest = &rest[name.len()..];
        let space = length_of(&rest[..rest.len().min(100)], u8::is_ascii_whitespace);
        let rest = &rest[space..];
        let attribute = length_of(&rest[..rest.len().min(100)], |byte| byte.is_ascii_alphabetic() || *byte == b'-');
        match rest.get(attribute) {
            Some(b'>' | b'/') => attribute == 0 || space > 0,
            Some(b'=') => attribute > 0 && space > 0,
            _ => false,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::has_tags;

    #[test]
    fn a_text_is_html_when_it_has_tags_of_known_elements() {
        for html in ["<p>x", "a<br>b", "a<BR />b", "<div style=\"x\">", "x</b>", "<p\n class=a>x", "<p hidden>x"] {
            assert!(has_tags(html), "{html}");
        }
        for text in [
            "",
            "a < b > c",
            "Mia <mia@example.com>",
            "Error <code 42, not recoverable>",
            "<table of contents>",
            "<https://example.com>",
            "AT&amp;T <unknown>",
            "if a<b and c>d",
            "<blockquotes>",
            "<p",
        ] {
            assert!(!has_tags(text), "{text}");
        }
    }
}
