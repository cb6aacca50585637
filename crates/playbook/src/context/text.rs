//! From what HubSpot stores (HTML, quoted, padded) to what a model should read.

/// Wide enough that a paragraph stays a line: wrapping would only cost tokens.
const WIDTH: usize = 10_000;

/// Plain text of a body that may hold HTML: tags gone, entities decoded, runs of blank lines folded, characters that
/// no database or model wants (U+0000) removed.
pub fn plain_text(body: &str) -> String {
    let looks_like_html = body.contains('<') && body.contains('>') || body.contains('&') && body.contains(';');
    let text = if looks_like_html {
        html2text::config::plain_no_decorate()
            // Cells become lines: drawn tables would cost tokens and say no more.
            .raw_mode(true)
            .string_from_read(body.as_bytes(), WIDTH)
            // A body that the HTML parser gives up on is still what somebody wrote.
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

/// An e-mail's own words: without the quoted history, which other entries hold, and without the signature. A mail that
/// is nothing but a quotation (somebody forwarded it) stays whole.
pub fn without_quotes(mail: &str) -> String {
    let mut own = Vec::new();
    for line in mail.lines() {
        let trimmed = line.trim();
        if begins_history(trimmed) || is_signature_mark(trimmed) {
            break;
        }
        if !trimmed.starts_with('>') {
            own.push(line);
        }
    }
    let own = own.join("\n").trim().to_owned();
    if own.is_empty() { mail.trim().to_owned() } else { own }
}

/// How mail programs announce what was written before: "On … wrote:", "Am … schrieb …:", Outlook's header block.
fn begins_history(line: &str) -> bool {
    let lower = line.to_lowercase();
    let announced = [("on ", "wrote:"), ("am ", ":"), ("le ", "a écrit :"), ("el ", "escribió:")];
    let is_announced = announced.iter().any(|(start, end)| {
        lower.starts_with(start) && lower.ends_with(end) && (*start != "am " || lower.contains("schrieb"))
    });
    let dashes = line.starts_with("-----") || line.starts_with("_____");
    let is_original =
        dashes && (lower.contains("original") || lower.contains("ursprüngliche") || line.starts_with("__"));
    is_announced || is_original || (lower.starts_with("from: ") && line.contains('@'))
}

/// RFC 3676's separator, and what phones add.
fn is_signature_mark(line: &str) -> bool {
    let lower = line.to_lowercase();
    line == "--" || lower.starts_with("sent from my ") || lower.starts_with("von meinem ") && lower.contains("gesendet")
}

/// Folds text for comparison: case, white space, typographic quotes and dashes do not count.
pub fn fold(text: &str) -> String {
    let mut folded = String::with_capacity(text.len());
    for word in text.split_whitespace() {
        if !folded.is_empty() {
            folded.push(' ');
        }
        folded.extend(word.chars().flat_map(char::to_lowercase).map(|character| match character {
            '\u{2018}' | '\u{2019}' | '\u{201a}' | '`' | '\u{b4}' => '\'',
            '\u{201c}' | '\u{201d}' | '\u{201e}' | '\u{ab}' | '\u{bb}' => '"',
            '\u{2010}'..='\u{2015}' => '-',
            other => other,
        }));
    }
    folded
}

/// The longest head of `text`, cut at a character, that `count` measures as at most `max` (found by halving: token
/// counts grow with length, nearly evenly).
pub(super) fn head(text: &str, max: usize, count: impl Fn(&str) -> usize) -> &str {
    let ends: Vec<usize> = text.char_indices().map(|(start, character)| start + character.len_utf8()).collect();
    let fitting = ends.partition_point(|end| count(&text[..*end]) <= max);
    &text[..fitting.checked_sub(1).map_or(0, |last| ends[last])]
}

#[cfg(test)]
mod tests {
    use super::{fold, head, plain_text, without_quotes};

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
        assert_eq!(without_quotes(mail), "We want to cancel.\n\nReally.");
        for history in [
            "On Mon, 3 Nov 2025 at 10:00, Jon <jon@example.com> wrote:",
            "Am 3. November 2025 schrieb Jon:",
            "-----Original Message-----",
            "From: Jon <jon@example.com>",
            "________________________________",
            "Sent from my iPhone",
        ] {
            assert_eq!(without_quotes(&format!("No.\n{history}\nold words")), "No.", "{history}");
        }
        assert_eq!(without_quotes("On Monday we decide."), "On Monday we decide.");
        assert_eq!(without_quotes("> only a quotation"), "> only a quotation", "a forwarded mail stays");
    }

    #[test]
    fn folding_forgets_case_space_and_typography() {
        assert_eq!(fold("They\u{2019}re  \n Ready \u{2013} now"), "they're ready - now");
    }

    #[test]
    fn a_head_never_splits_a_character() {
        let text = "größer als gedacht";
        for max in 0..=text.chars().count() {
            let head = head(text, max, |part| part.chars().count());
            assert_eq!(head.chars().count(), max);
        }
    }
}
