//! Whatever strangers write is read in bounded time and memory, and no text makes the conversion panic.
//!
//! `cargo xtask fuzz` runs a million cases of each property, and holds the bounds of time and memory exactly.
#![allow(clippy::expect_used, reason = "these are tests; their helpers too")]

use std::time::Duration;

use domain::{ObjectId, ObjectType, PortalId, RecordRef};
use playbook::{
    Context, RecordPath, TextFormat,
    context::{ContextEntry, ContextRecord},
    json_text, plain_text, without_quoted_history,
};
use proptest::prelude::*;
use time::OffsetDateTime;

/// The longest text that HubSpot keeps in a property, if its characters are of one byte.
const LONGEST: usize = 65_536;

/// Parts of which hostile HTML, mails and forged prompts are made.
const PARTS: &[&str] = &[
    "<table>",
    "<tr>",
    "<td rowspan=99999999>",
    "<td colspan=65535>",
    "</td>",
    "</tr>",
    "</table>",
    "<blockquote>",
    "</blockquote>",
    "<ul>",
    "<ol start=4294967295>",
    "<li>",
    "</li>",
    "<p>",
    "</p>",
    "<div>",
    "</div>",
    "<b>",
    "</b>",
    "<i>",
    "</i>",
    "<a href=x>",
    "</a>",
    "<pre>",
    "</pre>",
    "<br>",
    "<hr>",
    "<span style=\"",
    "\">",
    "display:none",
    "font-size:0;",
    "font-size:1em;",
    "/*",
    "*/",
    "\\",
    "\\6e ",
    "!important",
    "<svg>",
    "</svg>",
    "<math>",
    "<script>",
    "</script>",
    "<style>",
    "</style>",
    "<textarea>",
    "</textarea>",
    "<title>",
    "<plaintext>",
    "<template>",
    "<!--",
    "-->",
    "<![CDATA[",
    "]]>",
    "<!DOCTYPE ",
    "<?xml",
    "&",
    "&amp;",
    "&nGt;",
    "&#x200b;",
    "&#0;",
    "&#1114112;",
    "&notit;",
    "<",
    ">",
    "/",
    "=",
    "'",
    "\"",
    " ",
    "\t",
    "\n",
    "\r",
    "\0",
    "\u{a0}",
    "\u{2028}",
    "x",
    "word ",
    "we will cancel. ",
    "größer",
    "🚀",
    "\u{202e}",
    "\u{e0041}",
    "\u{fe0f}",
    "\u{300}",
    "> ",
    "On 3 Nov 2025 ",
    "wrote:",
    "Am ",
    "schrieb ",
    "From: ",
    "Sent: ",
    "To: ",
    "Subject: ",
    "-----Original Message-----",
    "---------- Forwarded message ---------",
    "-- ",
    "Sent from my iPhone",
    "[note 99 of 2030-01-01T00:00:00Z]",
    "</crm_data>",
    "Leadline action ",
    "00000000-0000-0000-0000-000000000000",
];

/// Texts of these parts, of any characters, and of one part over and over, which is what blows converters up. Most are
/// short, so that many are tried.
fn texts() -> impl Strategy<Value = String> {
    let parts = prop::collection::vec(prop::sample::select(PARTS), 0..60).prop_map(|parts| parts.concat());
    let bytes =
        prop::collection::vec(any::<u8>(), 0..400).prop_map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let mixed =
        prop::collection::vec(prop_oneof![prop::sample::select(PARTS).prop_map(ToOwned::to_owned), ".{0,6}"], 0..40)
            .prop_map(|parts| parts.concat());
    let repeated =
        (prop::collection::vec(prop::sample::select(PARTS), 1..4), 1_usize..500).prop_map(|(parts, times)| {
            let part = parts.concat();
            part.repeat(times.min(LONGEST / part.len().max(1)))
        });
    prop_oneof![4 => parts, 2 => bytes, 3 => mixed, 1 => repeated]
}

const FORMATS: [TextFormat; 3] = [TextFormat::Plain, TextFormat::Html, TextFormat::HtmlIfTagged];

/// What holds for every text that the model reads.
fn check(text: &str) {
    for format in FORMATS {
        let read = plain_text(text, format);
        assert!(read.len() <= 2 * text.len(), "{} bytes of {}", read.len(), text.len());
        assert!(!read.contains(['\0', '\r', '\u{1b}', '\u{200b}', '\u{202e}', '\u{feff}', '\u{e0041}']), "{read:?}");
        assert!(!read.contains("\n\n\n") && read.trim_end() == read, "{read:?}");
        assert!(json_text(&read).len() <= 2 * read.len() + 2);
        let own = without_quoted_history(&read);
        assert!(own.len() <= read.len());
        assert_eq!(own.is_empty(), read.trim().is_empty(), "a mail never vanishes as a whole");
    }
}

/// A token for each byte, and none ends within a character.
fn bytes(text: &str) -> Vec<usize> {
    (1..=text.len()).map(|end| text.floor_char_boundary(end)).collect()
}

fn context(texts: Vec<String>) -> Context {
    let record = RecordRef { portal_id: PortalId(1), object_type: ObjectType::Contact, object_id: ObjectId(1) };
    let company = texts.first().cloned();
    let entries = texts.into_iter().zip(1..).map(|(text, id)| ContextEntry {
        kind: ObjectType::Note,
        id: ObjectId(id),
        is_own: true,
        at: OffsetDateTime::UNIX_EPOCH,
        text: plain_text(&text, TextFormat::Plain),
    });
    let mut context = Context {
        entries: entries.collect(),
        records: vec![ContextRecord {
            path: RecordPath::parse("contact").expect("a path"),
            record,
            properties: [("company".to_owned(), company)].into(),
            merged: false,
            archived: false,
            is_text: false,
        }],
    };
    context.clean_entries();
    context
}

/// The texts in a part of a prompt, whose lines must all be ones that the fleet writes.
fn texts_in(part: &str) -> String {
    let text_of = |line: &str| {
        if line.is_empty() || line.starts_with("[note ") || line.starts_with("[left out") {
            return String::new();
        }
        serde_json::from_str::<String>(line).unwrap_or_else(|_| panic!("a line that nobody writes: {line:?}"))
    };
    part.lines().map(text_of).collect()
}

proptest! {
    // A case that fails is printed; `PROPTEST_CASES` sets how many are tried.
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_text_panics_or_grows(text in texts()) {
        check(&text);
    }

    #[test]
    fn parts_hold_every_word_and_nothing_looks_like_a_line_of_the_prompt(
        texts in prop::collection::vec(texts(), 1..4),
        max_tokens in 1_usize..2_000,
    ) {
        let context = context(texts);
        let parts = context.parts(max_tokens, bytes);
        let whole: String = context.entries.iter().map(|entry| entry.text.as_str()).collect();
        prop_assert_eq!(parts.iter().map(|part| texts_in(&part.text)).collect::<String>(), whole);
        if max_tokens >= 100 {
            prop_assert!(parts.iter().all(|part| part.text.len() <= max_tokens + 5), "{:?}", parts);
        }
        let facts = context.properties_text();
        prop_assert!(facts.lines().count() <= 2);
        texts_in(context.newest(max_tokens, bytes).strip_prefix(&facts).expect("facts first"));
    }
}

/// Texts of 65,536 bytes that took converters gigabytes or minutes, or grow with the square in a careless one.
fn worst() -> Vec<String> {
    let attributes: String = (0..).map(|n| format!(" a{n}")).take(10_000).collect();
    let mut texts: Vec<String> = PARTS
        .iter()
        .copied()
        .chain(["<table><tr><td rowspan=99999999>x", "<blockquote>we will cancel", "<a href='", "<p style='/*", "\rx"])
        .map(|part| part.repeat(LONGEST / part.len() + 1))
        .collect();
    texts.push(format!("<b{attributes}>x"));
    texts.push(format!("<b>{}{}", "<p><i>".repeat(5_000), "</b>".repeat(9_000)));
    texts.push(format!("{}{}", "<div>".repeat(6_000), "</table></ul>".repeat(3_000)));
    for text in &mut texts {
        text.truncate(text.floor_char_boundary(LONGEST));
    }
    texts
}

/// How long a text may take of a core. With all code optimised, as `cargo xtask fuzz` runs it: 200 ms.
fn most_time() -> Duration {
    let is_optimised = std::env::var_os("LEADLINE_FUZZ").is_some();
    if is_optimised { Duration::from_millis(200) } else { Duration::from_secs(3) }
}

/// For how long this thread has had a core, whatever else the machine does.
fn time_on_core() -> Duration {
    let times = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux");
    let nanoseconds = times.split(' ').next().and_then(|time| time.parse().ok());
    Duration::from_nanos(nanoseconds.expect("a number"))
}

#[test]
fn every_text_of_65536_bytes_is_read_in_bounded_time_and_memory() {
    let before = peak_memory();
    let mut slowest = (Duration::ZERO, String::new());
    for text in worst() {
        let started = time_on_core();
        check(&text);
        let context = context(vec![text.clone()]);
        assert!(context.parts(1_000, bytes).len() < 200);
        context.full_text();
        let took = time_on_core().saturating_sub(started);
        if took > slowest.0 {
            slowest = (took, text.chars().take(40).collect());
        }
    }
    let grown = peak_memory() - before;
    println!("slowest: {slowest:?}; memory grew by {} KiB", grown / 1_024);
    assert!(slowest.0 < most_time(), "{slowest:?}");
    assert!(grown < 64 << 20, "{grown} bytes");
}

/// The most memory that this process has held, in bytes.
fn peak_memory() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a line");
    1_024 * line.trim().trim_end_matches(" kB").parse::<usize>().expect("a number")
}
