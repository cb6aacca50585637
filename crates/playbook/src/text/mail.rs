//! The words of an e-mail's author, without earlier mails and signatures.
//!
//! The rules work on lines, as mail programs write them in English, German, French, Spanish, Portuguese, Italian and Dutch.

use super::{characters::lines, signatures::is_mobile_signature};

/// The text of an e-mail without the quoted earlier mails, which are entries of their own, and without the signature. What
/// was forwarded stays, and a mail that contains only a quotation stays complete.
pub fn without_quoted_history(mail: &str) -> String {
    let lines: Vec<&str> = lines(mail).collect();
    let mut own = Vec::new();
    let mut is_signature = false;
    let mut at = 0;
    while let Some(line) = lines.get(at) {
        if is_forward_mark(line) {
            own.extend(&lines[at..]);
            break;
        }
        if is_history_mark(line) || begins_header_block(&lines[at..]) {
            break;
        }
        if let Some(length) = attribution_length(&lines[at..]) {
            at += length;
            // What is quoted below is marked line by line, and the author may go on after it.
            if next_text(&lines[at..]).is_some_and(is_quoted) {
                continue;
            }
            break;
        }
        is_signature |= line.trim_end() == "--" || is_mobile_signature(line);
        if !is_signature && !is_quoted(line) && !continues_quotation(&lines, at) {
            own.push(*line);
        }
        at += 1;
    }
    let own = own.join("\n").trim().to_owned();
    if own.is_empty() { mail.trim().to_owned() } else { own }
}

/// Whether the subject of a mail says that it was forwarded, so that the mail below the sender's own words is its content.
pub fn is_forwarded(subject: &str) -> bool {
    const PREFIXES: [&str; 9] = ["fw:", "fwd:", "wg:", "tr:", "rv:", "enc:", "i:", "doorst:", "fs:"];
    let subject = plain_lower(subject).replace(' ', "");
    PREFIXES.iter().any(|prefix| subject.starts_with(prefix))
}

fn is_quoted(line: &str) -> bool {
    line.trim_start().starts_with('>')
}

/// The width to which mail programs wrap quoted lines at least, and leave the rest without a mark, in characters.
const WRAPPED_QUOTATION: usize = 72;

/// Whether this line is the unmarked rest of a quoted line: its first word had no place on the line above, the sentence goes
/// on, and the quotation, too. Everything else may be an answer.
fn continues_quotation(lines: &[&str], at: usize) -> bool {
    let Some(above) = at.checked_sub(1).map(|above| lines[above].trim_end()) else { return false };
    let line = lines[at].trim();
    let first_word = line.split(' ').next().unwrap_or_default();
    let had_no_place = above.chars().count() + 1 + first_word.chars().count() > WRAPPED_QUOTATION;
    let begins_sentence = above.ends_with(['.', '!', '?', ':']) && line.starts_with(char::is_uppercase);
    let goes_on = lines.get(at + 1).is_some_and(|below| is_quoted(below));
    is_quoted(above) && goes_on && had_no_place && !begins_sentence
}

fn next_text<'a>(lines: &[&'a str]) -> Option<&'a str> {
    lines.iter().find(|line| !line.trim().is_empty()).copied()
}

/// In lower case, with plain spaces: French has a narrow one before its colons.
pub(super) fn plain_lower(line: &str) -> String {
    line.trim().to_lowercase().replace(['\u{a0}', '\u{202f}'], " ")
}

/// How the line that introduces a quoted mail begins, and what it ends with or, for languages that put the name last,
/// contains.
const ATTRIBUTIONS: [(&str, &str); 8] = [
    ("on ", " wrote"),
    ("am ", " schrieb"),
    ("le ", " a écrit"),
    ("el ", " escribió"),
    ("em ", " escreveu"),
    ("a ", " escreveu"),
    ("il ", " ha scritto"),
    ("op ", " schreef"),
];

/// Over how many lines a mail program wraps the introduction of a quoted mail.
const MAX_ATTRIBUTION_LINES: usize = 3;

/// How many characters such an introduction has at most.
const MAX_ATTRIBUTION: usize = 300;

/// The number of lines that introduce a quoted mail (`On … wrote:`); `None` if these do not begin with an introduction.
fn attribution_length(lines: &[&str]) -> Option<usize> {
    let first = plain_lower(lines.first()?);
    let begins = ATTRIBUTIONS.iter().any(|(start, _)| first.starts_with(start));
    // A name and an address are enough on one line.
    if !begins {
        return (first.ends_with("> wrote:") && first.contains('@')).then_some(1);
    }
    let mut joined = String::new();
    for (line, length) in lines.iter().zip(1..=MAX_ATTRIBUTION_LINES) {
        let line = plain_lower(line);
        if line.is_empty() || is_quoted(&line) || joined.len() + line.len() > MAX_ATTRIBUTION {
            return None;
        }
        joined.push_str(&line);
        // A sentence may end with the same words; a mail program names the date.
        let is_dated = || joined.contains(|c: char| c.is_ascii_digit());
        if is_attribution(&joined) && (is_dated() || next_text(&lines[length..]).is_some_and(is_quoted)) {
            return Some(length);
        }
        joined.push(' ');
    }
    None
}

/// A mail program speaks of the author of the mail that it quotes, and people of themselves and of those around them.
fn is_attribution(joined: &str) -> bool {
    const PERSONAL: [&str; 14] =
        ["i", "we", "my", "our", "ich", "wir", "mein", "meine", "unser", "unsere", "ik", "wij", "mijn", "onze"];
    let Some(text) = joined.strip_suffix(':') else { return false };
    if text.split(' ').any(|word| PERSONAL.contains(&word)) {
        return false;
    }
    ATTRIBUTIONS.iter().any(|(start, verb)| {
        joined.starts_with(start)
            && if matches!(*verb, " schrieb" | " schreef") {
                text.contains(verb)
            } else {
                text.trim_end().ends_with(verb)
            }
    })
}

/// Whether everything below is an earlier mail: a line of underscores, or the words that Outlook writes above it.
fn is_history_mark(line: &str) -> bool {
    const ORIGINAL: [&str; 8] = [
        "original message",
        "ursprüngliche nachricht",
        "message d'origine",
        "message original",
        "mensaje original",
        "mensagem original",
        "messaggio originale",
        "oorspronkelijk bericht",
    ];
    let line = plain_lower(line).replace('\u{2019}', "'");
    line.len() >= 10 && line.bytes().all(|byte| byte == b'_')
        || line.starts_with("---") && ORIGINAL.iter().any(|words| line.contains(words))
}

/// Whether the text below was forwarded on purpose.
fn is_forward_mark(line: &str) -> bool {
    const FORWARDED: [&str; 12] = [
        "forwarded message",
        "weitergeleitete nachricht",
        "weitergeleiteten nachricht",
        "message réexpédié",
        "message transféré",
        "message transmis",
        "mensaje reenviado",
        "mensagem encaminhada",
        "mensagem reencaminhada",
        "messaggio inoltrato",
        "doorgestuurd bericht",
        "doorgestuurde bericht",
    ];
    let line = plain_lower(line);
    (line.starts_with("--") || line.ends_with(':'))
        && line.chars().count() <= 80
        && FORWARDED.iter().any(|words| line.contains(words))
}

/// A line of the block that Outlook writes above an earlier mail.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Header {
    From,
    Date,
    To,
    Subject,
    Other,
}

impl Header {
    fn of(line: &str) -> Option<Self> {
        let line = plain_lower(line);
        let (name, _) = line.split_once(':')?;
        Some(match name.trim_matches(|c| c == '*' || c == ' ') {
            "from" | "von" | "de" | "da" | "van" => Self::From,
            "sent" | "date" | "gesendet" | "datum" | "envoyé" | "enviado" | "enviado el" | "enviado em" | "enviada"
            | "enviada em" | "fecha" | "data" | "inviato" | "data invio" | "verzonden" => Self::Date,
            "to" | "an" | "à" | "a" | "para" | "aan" => Self::To,
            "subject" | "betreff" | "objet" | "asunto" | "assunto" | "oggetto" | "onderwerp" => Self::Subject,
            "cc" | "kopie" | "copie" | "importance" | "wichtigkeit" => Self::Other,
            _ => return None,
        })
    }
}

/// How many lines the block has at most; lists of recipients are wrapped.
const MAX_HEADER_LINES: usize = 10;

/// Whether the lines begin with the block that Outlook writes above an earlier mail: who sent it, when, and to whom or about
/// what.
fn begins_header_block(lines: &[&str]) -> bool {
    if lines.first().and_then(|line| Header::of(line)) != Some(Header::From) {
        return false;
    }
    let block = lines.iter().take(MAX_HEADER_LINES).take_while(|line| !line.trim().is_empty());
    let headers: Vec<_> = block.filter_map(|line| Header::of(line)).collect();
    headers.contains(&Header::Date) && (headers.contains(&Header::To) || headers.contains(&Header::Subject))
}

#[cfg(test)]
mod tests {
    use super::{is_forwarded, without_quoted_history};
    use crate::text::{TextFormat, plain_text};

    #[test]
    fn quoted_history_and_signatures_are_cut() {
        let mail = "We want to cancel.\n\n> earlier words\nReally.\n-- \nEve Stone\nStone Retail";
        assert_eq!(without_quoted_history(mail), "We want to cancel.\n\nReally.");
        for history in [
            "On Mon, 3 Nov 2025 at 10:00, Jon <jon@example.com> wrote:",
            "Am 3. November 2025 schrieb Jon:",
            "-----Original Message-----",
            "From: Jon <jon@example.com>\nDate: Monday\nTo: Mia",
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
    fn the_line_above_a_quotation_may_be_wrapped_and_name_no_address() {
        for history in [
            "On Mon, 3 Nov 2025 at 10:00, Mia Stone\n<mia@example.com> wrote:",
            "On Mon, Nov 3, 2025 at 10:00 AM Mia Stone wrote:",
            "On Monday, November 3rd, 2025 at 10:00 AM,\nMia Stone of Stone Retail and Sons\n<mia.stone@example.com> wrote:",
            "Mia Stone <mia@example.com> wrote:",
            "Am Mo., 3. Nov. 2025 um 10:00 Uhr schrieb Mia Stone\n<mia@example.com>:",
            "Am 03.11.2025 um 10:00 schrieb Mia Stone:",
            "Le lun. 3 nov. 2025 à 10:00, Mia Stone <mia@example.com> a\nécrit\u{a0}:",
            "Le 3 novembre 2025 à 10:00, Mia Stone a écrit :",
            "El lun, 3 nov 2025 a las 10:00, Mia Stone\n(<mia@example.com>) escribió:",
            "Em seg., 3 de nov. de 2025 às 10:00, Mia Stone\n<mia@example.com> escreveu:",
            "Il giorno lun 3 nov 2025 alle ore 10:00 Mia Stone\n<mia@example.com> ha scritto:",
            "Op ma 3 nov 2025 om 10:00 schreef Mia Stone\n<mia@example.com>:",
        ] {
            let mail = format!("Thank you.\n\n{history}\n\nThis is unacceptable.\nMia");
            assert_eq!(without_quoted_history(&mail), "Thank you.", "{history}");
        }
    }

    #[test]
    fn outlooks_block_is_recognised_in_seven_languages() {
        for block in [
            "From: Mia Stone\nSent: Monday, November 3, 2025 10:00 AM\nTo: Support\nSubject: Outage",
            "From: Mia Stone\nSent: Monday, November 3, 2025 10:00 AM\nTo: Support; Sales; Legal;\n Board; Press\nCc: Jon",
            "*From:* Mia Stone\n*Date:* Monday\n*Subject:* Outage",
            "Von: Mia Stone\nGesendet: Montag, 3. November 2025 10:00\nAn: Support\nBetreff: Ausfall",
            "De : Mia Stone\nEnvoyé : lundi 3 novembre 2025 10:00\nÀ : Support\nObjet : Panne",
            "De: Mia Stone\nEnviado el: lunes, 3 de noviembre de 2025 10:00\nPara: Soporte\nAsunto: Caída",
            "De: Mia Stone\nEnviada em: segunda-feira, 3 de novembro de 2025 10:00\nPara: Suporte\nAssunto: Falha",
            "Da: Mia Stone\nInviato: lunedì 3 novembre 2025 10:00\nA: Supporto\nOggetto: Guasto",
            "Van: Mia Stone\nVerzonden: maandag 3 november 2025 10:00\nAan: Support\nOnderwerp: Storing",
            "-----Ursprüngliche Nachricht-----\nVon: Mia",
            "-----Message d\u{2019}origine-----\nDe : Mia",
            "-----Mensaje original-----\nDe: Mia",
            "-----Mensagem original-----\nDe: Mia",
            "-----Messaggio originale-----\nDa: Mia",
            "-----Oorspronkelijk bericht-----\nVan: Mia",
        ] {
            let mail = format!("Thank you.\n\n{block}\n\nThis is unacceptable.");
            assert_eq!(without_quoted_history(&mail), "Thank you.", "{block}");
        }
    }

    #[test]
    fn what_was_forwarded_is_kept() {
        for mark in [
            "---------- Forwarded message ---------",
            "Begin forwarded message:",
            "-------- Weitergeleitete Nachricht --------",
            "Anfang der weitergeleiteten Nachricht:",
            "Début du message réexpédié\u{a0}:",
            "---------- Message transféré ----------",
            "---------- Mensaje reenviado ----------",
            "---------- Mensagem encaminhada ----------",
            "---------- Messaggio inoltrato ----------",
            "---------- Doorgestuurd bericht ----------",
        ] {
            let mail = format!("FYI\n\nSent from my iPhone\n\n{mark}\nFrom: Mia <mia@example.com>\n\n> We cancel.");
            let kept = format!("FYI\n\n{mark}\nFrom: Mia <mia@example.com>\n\n> We cancel.");
            assert_eq!(without_quoted_history(&mail), kept);
        }
        let quoted = "Thanks.\n\nOn 3 Nov 2025, Mia wrote:\nOld.\n---------- Forwarded message ---------\nOlder.";
        assert_eq!(without_quoted_history(quoted), "Thanks.", "what a quoted mail forwarded is history");
        assert!(is_forwarded("Fwd: Outage") && is_forwarded("WG: Ausfall") && is_forwarded("TR : Panne"));
        assert!(!is_forwarded("Re: Outage") && !is_forwarded("Invoice: May"));
    }

    /// As Gmail and Outlook send their HTML.
    #[test]
    fn quotations_in_html_are_cut_like_those_in_text() {
        let gmail = "<div dir=\"ltr\">Thank you,<div>that helped.</div></div><br><div class=\"gmail_quote\">\
            <div dir=\"ltr\" class=\"gmail_attr\">On Mon, Nov 3, 2025 at 10:00 AM Mia Stone &lt;<a href=\"mailto:m@x\">mia@example.com</a>\
            &gt; wrote:<br></div><blockquote style=\"margin:0 0 0 .8ex\"><div>This is unacceptable.<br></div></blockquote></div>";
        let outlook = "<html><head><style><!-- p.MsoNormal {margin:0cm} --></style></head><body><div class=WordSection1>\
            <p class=MsoNormal>Thank you,<br>that helped.<o:p></o:p></p><p class=MsoNormal><o:p>&nbsp;</o:p></p>\
            <div style='border:none;border-top:solid #E1E1E1 1.0pt'><p class=MsoNormal><b>Von:</b> Mia Stone \
            &lt;mia@example.com&gt; <br><b>Gesendet:</b> Montag, 3. November 2025 10:00<br><b>An:</b> Support<br>\
            <b>Betreff:</b> Ausfall<o:p></o:p></p></div><p class=MsoNormal>This is unacceptable.</p></div></body></html>";
        for html in [gmail, outlook] {
            assert_eq!(without_quoted_history(&plain_text(html, TextFormat::Html)), "Thank you,\nthat helped.");
        }
    }

    #[test]
    fn an_answer_below_or_between_quotations_is_the_authors() {
        let long = "> This line of a quotation is so long that the mail program of the sender has wrapped";
        let mail =
            format!("On 3 Nov 2025 Mia wrote:\n{long}\nit here.\n> Will you stay?\n\nYes, gladly.\n> When?\nToday.");
        assert_eq!(without_quoted_history(&mail), "Yes, gladly.\nToday.");
        for (quoted, answer) in [
            ("> We would like to know from you whether you want to go on with us", "No, we cancel."),
            ("> We would like to know from you whether you want to go on with us next year.", "No, we cancel."),
            ("> We would like to know from you whether you want to go on with us next year", "no, we cancel."),
        ] {
            for below in ["", "\n\nMia", "\nMia"] {
                let mail = format!("{quoted}\n{answer}{below}");
                assert_eq!(without_quoted_history(&mail), format!("{answer}{below}"), "{mail}");
            }
        }
        let between =
            "> Do you want to go on with us next year, as the contract of May says it?\nNo, we cancel.\n> When?";
        assert_eq!(without_quoted_history(between), "No, we cancel.");
    }

    #[test]
    fn sentences_that_resemble_an_introduction_stay() {
        for mail in [
            "On the phone he wrote:\nnothing at all.",
            "From: our side there is nothing to add.\nTo: you we say thanks.",
            "De plus, le produit est bon.",
            "A 3 minute call, then she left.\nWe wrote: thanks.",
            "Hello,\nOn 12 May I wrote:\nplease cancel my contract.\nNobody answered.",
            "On 12 May we also wrote:\nplease cancel.",
            "Am 3. November schrieb ich Ihnen:\nWir kündigen.",
            "Am 3. November schrieben wir Ihnen:\nWir kündigen.",
            "Op 3 november schreef ik u:\nWij zeggen op.",
            "On 12 May my colleague wrote:\nplease cancel.",
            "A new message from your form:\nFrom: mia@example.com\nSubject: Contract\nMessage:\nWe cancel.",
            "Sign here: _____\n_____ and here\nWe cancel.",
            "Outlook voor Windows werkt niet meer. Wij zeggen op.\nMia",
            "Outlook voor Windows werkt niet meer\nWij zeggen op.",
            "Sent from my office.\nWe cancel.",
            "Laden Sie Outlook neu, sagt Ihr Support\nWir kündigen.",
        ] {
            assert_eq!(without_quoted_history(mail), mail);
        }
    }
}
