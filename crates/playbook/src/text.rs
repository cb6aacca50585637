//! Texts from HubSpot (HTML, quoted mails, padding) as the model should read them, and the length limit of texts for
//! HubSpot.

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

/// The line width of converted HTML, in columns. It is so large that a paragraph stays one line, because line breaks
/// would cost tokens.
const WIDTH: usize = 10_000;

/// The plain text of a body that may contain HTML: without tags, with decoded entities, with at most one blank line
/// between paragraphs, and without U+0000, which Postgres rejects.
pub fn plain_text(body: &str) -> String {
    let looks_like_html = body.contains('<') && body.contains('>') || body.contains('&') && body.contains(';');
    let text = if looks_like_html {
        html2text::config::plain_no_decorate()
            // Each cell of a table becomes a line, because drawn borders would cost tokens.
            .raw_mode(true)
            .string_from_read(body.as_bytes(), WIDTH)
            // If the HTML cannot be parsed, the model reads it as it is.
            .unwrap_or_else(|_| body.to_owned())
    } else {
        body.to_owned()
    };
    let mut plain = String::with_capacity(text.len());
    let mut blank = false;
    for line in text.lines().map(str::trim_end) {
        if line.trim().is_empty() {
            blank = !plain.is_empty();
            continue;
        }
        if blank {
            plain.push('\n');
        }
        blank = false;
        plain.extend(line.chars().filter(|character| *character != '\0'));
        plain.push('\n');
    }
    plain.truncate(plain.trim_end().len());
    plain
}

/// The text of an e-mail without the quoted earlier mails, which are entries of their own, and without the signature. A
/// mail that contains only a quotation (a forwarded mail) stays complete.
pub fn without_quoted_history(mail: &str) -> String {
    let mut own = Vec::new();
    for line in mail.lines() {
        let trimmed = line.trim();
        if begins_quoted_history(trimmed) || is_signature_separator(trimmed) {
            break;
        }
        if !trimmed.starts_with('>') {
            own.push(line);
        }
    }
    let own = own.join("\n").trim().to_owned();
    if own.is_empty() { mail.trim().to_owned() } else { own }
}

/// Whether a mail program writes this line before the earlier mails: "On … wrote:", "Am … schrieb …:", or Outlook's
/// header block.
fn begins_quoted_history(line: &str) -> bool {
    let lower = line.to_lowercase();
    let introductions = [("on ", "wrote:"), ("am ", ":"), ("le ", "a écrit :"), ("el ", "escribió:")];
    let is_introduction = introductions.iter().any(|(start, end)| {
        lower.starts_with(start) && lower.ends_with(end) && (*start != "am " || lower.contains("schrieb"))
    });
    let dashes = line.starts_with("-----") || line.starts_with("_____");
    let is_original =
        dashes && (lower.contains("original") || lower.contains("ursprüngliche") || line.starts_with("__"));
    is_introduction || is_original || (lower.starts_with("from: ") && line.contains('@'))
}

/// Whether the signature follows: the separator of RFC 3676, or the line that phones add.
fn is_signature_separator(line: &str) -> bool {
    let lower = line.to_lowercase();
    line == "--" || lower.starts_with("sent from my ") || lower.starts_with("von meinem ") && lower.contains("gesendet")
}

/// The text in a form for comparison: in lower case, with single spaces, and with ASCII quotes and dashes.
pub(crate) fn normalize(text: &str) -> String {
    let mut normalized = String::with_capacity(text.len());
    for word in text.split_whitespace() {
        if !normalized.is_empty() {
            normalized.push(' ');
        }
        normalized.extend(word.chars().flat_map(char::to_lowercase).map(|character| match character {
            '\u{2018}' | '\u{2019}' | '\u{201a}' | '`' | '\u{b4}' => '\'',
            '\u{201c}' | '\u{201d}' | '\u{201e}' | '\u{ab}' | '\u{bb}' => '"',
            '\u{2010}'..='\u{2015}' => '-',
            other => other,
        }));
    }
    normalized
}

/// The longest prefix of `text`, cut between characters, for which `count` is at most `max`. A binary search finds it,
/// because token counts grow with the length, nearly evenly.
pub(crate) fn longest_prefix(text: &str, max: usize, count: impl Fn(&str) -> usize) -> &str {
    let ends: Vec<usize> = text.char_indices().map(|(start, character)| start + character.len_utf8()).collect();
    let fitting = ends.partition_point(|end| count(&text[..*end]) <= max);
    &text[..fitting.checked_sub(1).map_or(0, |last| ends[last])]
}

#[cfg(test)]
mod tests {
    use super::{longest_prefix, normalize, plain_text, without_quoted_history};

    #[test]
    fn html_becomes_text() {
        let body = "<div><p>Budget is <b>50k&nbsp;&euro;</b> &amp; rising</p><p></p><p></p><ul><li>Q1</li></ul></div>";
        let text = plain_text(body);
        assert!(text.contains("50k") && text.contains("& rising") && text.contains("Q1"), "{text}");
        assert!(!text.contains('<') && !text.contains("\n\n\n"), "{text}");
    }

    #[test]
    fn plain_text_and_nul_characters() {
        assert_eq!(plain_text("a < b\0 and c"), "a < b and c");
        assert_eq!(plain_text(" \n\n "), "");
        assert_eq!(plain_text("<p> </p><br/>"), "");
    }

    #[test]
    fn quoted_history_and_signatures_are_cut() {
        let mail = "We want to cancel.\n\n> earlier words\nReally.\n-- \nEve Stone\nStone Retail";
        assert_eq!(without_quoted_history(mail), "We want to cancel.\n\nReally.");
        for history in [
            "On Mon, 3 Nov 2025 at 10:00, Jon <jon@example.com> wrote:",
            "Am 3. November 2025 schrieb Jon:",
            "-----Original Message-----",
            "From: Jon <jon@example.com>",
            "________________________________",
            "Sent from my iPhone",
        ] {
            assert_eq!(without_quoted_history(&format!("No.\n{history}\nold words")), "No.", "{history}");
        }
        assert_eq!(without_quoted_history("On Monday we decide."), "On Monday we decide.");
        assert_eq!(
            without_quoted_history("> only a quotation"),
            "> only a quotation",
            "a forwarded mail stays complete"
        );
    }

    #[test]
    fn normalized_texts_are_equal_despite_case_space_and_typography() {
        assert_eq!(normalize("They\u{2019}re  \n Ready \u{2013} now"), "they're ready - now");
    }

    #[test]
    fn a_prefix_never_splits_a_character() {
        let text = "größer als gedacht";
        for max in 0..=text.chars().count() {
            let prefix = longest_prefix(text, max, |part| part.chars().count());
            assert_eq!(prefix.chars().count(), max);
        }
    }
}
