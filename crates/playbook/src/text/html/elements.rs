//! What the text needs to know of HTML's elements: which break the line, which have no content, and which end others.
//! Source: the HTML standard, <https://html.spec.whatwg.org/multipage/parsing.html> and
//! <https://html.spec.whatwg.org/multipage/rendering.html>.

use std::{collections::HashMap, sync::LazyLock};

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
            | b"track" | b"wbr" | b"basefont" | b"bgsound" | b"frame" | b"image" | b"keygen" => {
                (Gap::None, Category::Void)
            }
            b"ul" | b"menu" | b"dir" => (Gap::Paragraph, Category::List { is_numbered: false }),
            b"ol" => (Gap::Paragraph, Category::List { is_numbered: true }),
            b"li" => (Gap::Line, Category::Item),
            b"blockquote" => (Gap::Paragraph, Category::Quotation),
            b"pre" | b"listing" | b"xmp" | b"plaintext" | b"textarea" => (Gap::Paragraph, Category::Preformatted),
            b"script" | b"style" | b"template" | b"title" | b"noscript" | b"noembed" | b"noframes" | b"iframe"
            | b"object" | b"audio" | b"video" | b"canvas" | b"svg" | b"math" | b"datalist" | b"meter" | b"progress"
            | b"rp" => (Gap::None, Category::NotText),
            b"p" | b"h1" | b"h2" | b"h3" | b"h4" | b"h5" | b"h6" | b"dl" | b"table" | b"figure" => {
                (Gap::Paragraph, Category::Other)
            }
            _ if Traits::of_html(name).has(Traits::BLOCK) => (Gap::Line, Category::Other),
            _ => (Gap::None, Category::Other),
        };
        Self { gap, category }
    }
}

/// What the rules about open elements ask of an element: a set of properties.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Traits(u16);

impl Traits {
    /// It is more than the formatting of words.
    pub(super) const SPECIAL: Self = Self(1);
    /// End tags within it end nothing around it.
    pub(super) const SCOPE: Self = Self(2);
    /// As `SCOPE`, for items of a list.
    pub(super) const LIST_SCOPE: Self = Self(4);
    /// As `SCOPE`, for paragraphs.
    pub(super) const PARAGRAPH_SCOPE: Self = Self(8);
    /// It may be left without an end tag.
    pub(super) const IMPLIED_END: Self = Self(16);
    /// The structure of a table, in which text has no place: it is shown before the table.
    pub(super) const FOSTERING: Self = Self(32);
    /// It determines how tags within are read: a part of a table, or a template.
    pub(super) const CONTEXT: Self = Self(64);
    /// HTML may be within it, although it is no HTML itself.
    pub(super) const INTEGRATION: Self = Self(128);
    /// It stands on lines of its own.
    const BLOCK: Self = Self(256);

    pub(super) fn has(self, any_of: Self) -> bool {
        self.0 & any_of.0 != 0
    }

    pub(super) const fn and(self, more: Self) -> Self {
        Self(self.0 | more.0)
    }

    /// Those of an element of HTML.
    pub(super) fn of_html(name: &[u8]) -> Self {
        static KNOWN: LazyLock<HashMap<&[u8], Traits>> = LazyLock::new(|| {
            let mut known = HashMap::new();
            for (traits, names) in SETS {
                for name in names.split_ascii_whitespace() {
                    let all: &mut Traits = known.entry(name.as_bytes()).or_default();
                    *all = all.and(traits);
                }
            }
            known
        });
        KNOWN.get(name).copied().unwrap_or_default()
    }

    /// Those of an element of SVG.
    pub(super) fn of_svg(name: &[u8]) -> Self {
        if matches!(name, b"foreignobject" | b"desc" | b"title") { INTEGRATION_POINT } else { Self::default() }
    }

    /// Those of an element of MathML; `is_html`: its attributes say that it contains HTML.
    pub(super) fn of_math(name: &[u8], is_html: bool) -> Self {
        match name {
            b"mi" | b"mo" | b"mn" | b"ms" | b"mtext" => INTEGRATION_POINT,
            b"annotation-xml" if is_html => INTEGRATION_POINT,
            b"annotation-xml" => Self::SPECIAL.and(Self::SCOPE),
            _ => Self::default(),
        }
    }
}

const INTEGRATION_POINT: Traits = Traits::SPECIAL.and(Traits::SCOPE).and(Traits::INTEGRATION);

/// The sets of elements in the standard's "The stack of open elements" and "Creating and inserting nodes", and what its
/// "Rendering" displays as a block.
const SETS: [(Traits, &str); 8] = [
    (
        Traits::SPECIAL,
        "address applet area article aside base basefont bgsound blockquote body br button caption center col colgroup dd \
        details dir div dl dt embed fieldset figcaption figure footer form frame frameset h1 h2 h3 h4 h5 h6 head header \
        hgroup hr html iframe img input keygen li link listing main marquee menu meta nav noembed noframes noscript object ol \
        p param plaintext pre script search section select source style summary table tbody td template textarea tfoot th \
        thead title tr track ul wbr xmp",
    ),
    (Traits::SCOPE, "applet caption html table td th marquee object select template"),
    (Traits::LIST_SCOPE, "ol ul"),
    (Traits::PARAGRAPH_SCOPE, "button"),
    (Traits::IMPLIED_END, "dd dt li optgroup option p rb rp rt rtc"),
    (Traits::FOSTERING, "table tbody tfoot thead tr"),
    (Traits::CONTEXT, "table caption colgroup tbody tfoot thead tr td th template"),
    (
        Traits::BLOCK,
        "address article aside body button caption center colgroup dd details dialog dt div fieldset figcaption footer form \
        frameset head header hgroup html legend main marquee nav optgroup option search section select summary tbody td \
        tfoot th thead tr",
    ),
];

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
pub(in crate::text) fn has_tags(text: &str) -> bool {
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
