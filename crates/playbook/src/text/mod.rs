//! Texts from HubSpot as the model should read them, and the length limit of texts for HubSpot.
//!
//! Everything here takes time and memory in proportion to the length of the text, whatever strangers have written. Nothing
//! recurses, and no text becomes more than twice as long.

mod characters;
mod html;
mod mail;
mod signatures;
mod split;

pub use mail::{is_forwarded, without_quoted_history};
pub(crate) use split::Pieces;
pub use split::json_text;

pub use characters::is_invisible;
use characters::tidy;

/// The maximum length of a HubSpot property with text, in characters. Source: HubSpot's properties guide,
/// <https://developers.hubspot.com/docs/guides/api/crm/properties>.
pub(crate) const MAX_HUBSPOT_TEXT: usize = 65_536;

/// The text, cut to the length that HubSpot accepts.
pub(crate) fn truncate_for_hubspot(mut text: String) -> String {
    if let Some((end, _)) = text.char_indices().nth(MAX_HUBSPOT_TEXT) {
        text.truncate(end);
    }
    text
}

/// How a text is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TextFormat {
    /// As it is read: `<` is a character like any other.
    Plain,
    /// HTML.
    Html,
    /// HTML if it contains tags of elements that people format texts with, else plain.
    HtmlIfTagged,
}

impl TextFormat {
    /// The format of a HubSpot property. Source: the field types of HubSpot's default properties; a property that a company
    /// has made itself may be either.
    pub fn of_property(name: &str) -> Self {
        match name {
            "hs_email_text"
            | "hs_email_subject"
            | "subject"
            | "content"
            | "hs_call_title"
            | "hs_meeting_title"
            | "hs_task_subject"
            | "hs_communication_body" => Self::Plain,
            "hs_note_body" | "hs_task_body" | "hs_meeting_body" | "hs_internal_meeting_notes" => Self::Html,
            _ if name.ends_with("_html") => Self::Html,
            // Calling apps store transcripts as plain text, people format their notes of a call.
            _ => Self::HtmlIfTagged,
        }
    }
}

/// What a person sees of a text that is written in `format`: without tags, hidden elements and invisible characters, with
/// at most one blank line between paragraphs.
pub fn plain_text(text: &str, format: TextFormat) -> String {
    let is_html = match format {
        TextFormat::Plain => false,
        TextFormat::Html => true,
        TextFormat::HtmlIfTagged => html::has_tags(text),
    };
    if is_html { tidy(&html::text_of(text)) } else { tidy(text) }
}

/// The text in a form for comparison: in lower case, with single spaces, with ASCII quotes and dashes, and without invisible
/// characters.
pub fn normalize(text: &str) -> String {
    let mut normalized = String::with_capacity(text.len());
    for word in text.split_whitespace() {
        if !normalized.is_empty() {
            normalized.push(' ');
        }
        // Most words by far, and ten times as fast.
        if word.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'`') {
            let start = normalized.len();
            normalized.push_str(word);
            normalized[start..].make_ascii_lowercase();
            continue;
        }
        let visible = word.chars().filter(|character| !is_invisible(*character));
        normalized.extend(visible.flat_map(char::to_lowercase).map(|character| match character {
            '\u{2018}' | '\u{2019}' | '\u{201a}' | '`' | '\u{b4}' => '\'',
            '\u{201c}' | '\u{201d}' | '\u{201e}' | '\u{ab}' | '\u{bb}' => '"',
            '\u{2010}'..='\u{2015}' => '-',
            other => other,
        }));
    }
    normalized
}

#[cfg(test)]
mod tests {
    use super::{TextFormat, normalize, plain_text, tidy};

    #[test]
    fn html_becomes_text() {
        let body = "<div><p>Budget is <b>50k&nbsp;&euro;</b> &amp; rising</p><p></p><p></p><ul><li>Q1</li></ul></div>";
        let text = plain_text(body, TextFormat::Html);
        assert!(text.contains("50k") && text.contains("& rising") && text.contains("Q1"), "{text}");
        assert!(!text.contains('<') && !text.contains("\n\n\n"), "{text}");
        assert_eq!(plain_text("<p> </p><br/>", TextFormat::Html), "");
    }

    #[test]
    fn plain_text_stays_as_it_is_but_for_what_nobody_sees() {
        assert_eq!(plain_text("a < b\0 and c", TextFormat::Plain), "a < b and c");
        assert_eq!(plain_text(" \n\n ", TextFormat::Plain), "");
        let error = "Error <code 42, not recoverable>\nMia <mia@example.com> &amp; Jon\n<b>really</b>";
        assert_eq!(plain_text(error, TextFormat::Plain), error);
    }

    #[test]
    fn texts_in_ascii_become_the_same_on_the_fast_way() {
        for character in (0..=127).map(char::from) {
            let text = format!("A{character}b ");
            // A letter beyond ASCII at the end of the line, or word, makes it go the other way.
            for (fast, slow) in [
                (normalize(&text), normalize(&text.replace("b ", "bé"))),
                (tidy(&text), tidy(&text.replace("b ", "bé"))),
            ] {
                assert_eq!(format!("{fast}é"), slow, "{character:?}");
            }
        }
    }

    #[test]
    fn the_property_says_how_its_text_is_written() {
        let read = |property: &str, text: &str| plain_text(text, TextFormat::of_property(property));
        let line = "<p>a</p> <mia@example.com>";
        for plain in ["hs_email_text", "subject", "content", "hs_email_subject"] {
            assert_eq!(read(plain, line), line);
        }
        for html in ["hs_email_html", "hs_note_body", "my_own_html"] {
            assert_eq!(read(html, line), "a");
        }
        let transcript = "Agent: did you see <error 7>?\nCustomer: a<b, yes.";
        for either in ["hs_call_body", "my_own_transcript"] {
            assert_eq!(read(either, transcript), transcript);
            assert_eq!(read(either, "<p>a<br>b</p>"), "a\nb");
        }
    }

    #[test]
    fn normalized_texts_are_equal_despite_case_space_and_typography() {
        assert_eq!(normalize("They\u{2019}re  \n Ready \u{2013} n\u{200b}ow"), "they're ready - now");
    }
}
