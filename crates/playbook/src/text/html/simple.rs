//! The short way for HTML as people's notes mostly are: paragraphs, line breaks and emphasis, without attributes.
//!
//! None of these elements hides, quotes or numbers what is in it, wherever it stands. So the text needs neither a tokenizer nor a
//! tree, and is the same.

use super::{
    Writer,
    elements::{Category, Element},
    settings::Setting,
};

/// The elements that are read here.
const ELEMENTS: [&str; 9] = ["p", "br", "div", "b", "strong", "i", "em", "u", "span"];

/// The character references that are read here.
const REFERENCES: [(&str, char); 6] =
    [("amp;", '&'), ("lt;", '<'), ("gt;", '>'), ("quot;", '"'), ("nbsp;", '\u{a0}'), ("#39;", '\'')];

/// The text that a person sees of `html`; `None`: there is more in it than is read here.
pub(super) fn text_of(html: &str) -> Option<String> {
    let mut writer = Writer::default();
    let setting = Setting::default();
    let mut rest = html;
    while let Some(at) = rest.bytes().position(|byte| matches!(byte, b'<' | b'&' | 0)) {
        let (text, special) = rest.split_at(at);
        writer.write(text, &setting);
        rest = if let Some(tag) = special.strip_prefix('<') {
            let (element, after) = element(tag)?;
            match element.category {
                Category::LineBreak => writer.break_line(),
                _ => writer.widen(element.gap),
            }
            after
        } else {
            let reference = special.strip_prefix('&')?;
            let (name, character) = REFERENCES.iter().find(|(name, _)| reference.starts_with(name))?;
            writer.write(character.encode_utf8(&mut [0; 4]), &setting);
            &reference[name.len()..]
        };
    }
    writer.write(rest, &setting);
    Some(writer.text)
}

/// The element whose tag this begins with, behind its `<`, and what follows the tag.
fn element(tag: &str) -> Option<(Element, &str)> {
    let (inner, after) = tag.split_once('>')?;
    let name = match inner.strip_prefix('/') {
        // A browser takes the end of a line break for a line break; this leaves it to the long way.
        Some("br") => return None,
        Some(name) => name,
        None if inner == "br/" || inner == "br /" => "br",
        None => inner,
    };
    ELEMENTS.contains(&name).then(|| (Element::named(name.as_bytes()), after))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::whole_text_of;

    /// A part of a text: what the short way reads comes most often, so that most texts have nothing else.
    fn part() -> impl Strategy<Value = String> {
        let name = prop::sample::select(super::ELEMENTS.as_slice());
        let tag = (name, 0..3).prop_map(|(name, form)| match form {
            0 => format!("<{name}>"),
            1 => format!("</{name}>"),
            _ => format!("<{name} />"),
        });
        let text = prop::sample::select(&[
            " ", "a", "B c", "\n", "\r\n", "\t", "\u{a0}", ">", "\"", "é", "\u{200b}", "&amp;", "&lt;", "&gt;p",
            "&nbsp;", "&#39;", "&quot;", "/", "=",
        ]);
        let other =
            prop::sample::select(&["&", "&euro;", "&ampx", "<", "<!-- c -->", "<ul><li>", "<P>", "<p class=x>", "\0"]);
        prop_oneof![30 => tag, 30 => text.prop_map(ToOwned::to_owned), 1 => other.prop_map(ToOwned::to_owned)]
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn the_short_way_comes_to_the_same_text_as_the_whole_one(parts in prop::collection::vec(part(), 0..24)) {
            let html = parts.concat();
            if let Some(text) = super::text_of(&html) {
                prop_assert_eq!(text, whole_text_of(&html), "{}", html);
            }
        }
    }

    #[test]
    fn notes_of_people_go_the_short_way_and_others_do_not() {
        let note = "<div><p>Budget is <strong>50k&nbsp;EUR</strong> &amp; rising.<br/>Next call: May.</p><p></p></div>";
        assert_eq!(super::text_of(note).as_deref(), Some("Budget is 50k EUR & rising.\nNext call: May."));
        for other in ["<p hidden>a</p>", "<P>a</P>", "a &euro; b", "a < b", "<ul><li>a</ul>", "<!-- a -->", "a\0", "<p"]
        {
            assert_eq!(super::text_of(other), None, "{other}");
        }
    }
}
