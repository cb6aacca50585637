//! The simulator's model: it answers by plain rules from the content of the prompt, so that a test can tell from a
//! record what must be written. Like a real model under structured outputs, it fills exactly the schema's fields.

use serde_json::{Map, Value, json};

use crate::faults::FaultKind;

/// What the rules find in a text.
struct Reading<'a> {
    budget: Option<(i64, &'a str)>,
    score: i64,
    sentiment: f64,
    reasons: Vec<&'static str>,
    /// The first sentence of the newest entry.
    gist: &'a str,
    /// Sentences with a promise or a request.
    steps: Vec<&'a str>,
}

/// Words (English and German), what they mean, and how much they add to the score.
const SIGNS: [(&[&str], &str, i64); 10] = [
    (
        &["ready to sign", "sign this week", "approved budget", "purchase order", "budget is approved"],
        "ready to buy",
        25,
    ),
    (&["q1", "next month", "this quarter", "asap", "nächsten monat", "bis ende", "deadline"], "a near date", 15),
    (&["ceo", "cto", "vp ", "head of", "director", "geschäftsführer", "decision maker"], "power to decide", 15),
    (&["excited", "love", "great fit", "begeistert", "impressed"], "enthusiasm", 10),
    (&["demo", "trial", "pilot", "proof of concept"], "wants to see it", 8),
    (&["student", "thesis", "dissertation", "university project"], "a student", -45),
    (&["competitor", "competing product", "our own product is similar"], "a competitor", -50),
    (&["angry", "furious", "cancel", "refund", "unacceptable", "complaint"], "anger", -30),
    (&["not interested", "no budget", "unsubscribe", "stop contacting"], "a clear no", -40),
    (&["just browsing", "maybe next year", "not sure"], "no hurry", -15),
];

/// Words that show a mood, and how much they add to the sentiment.
const MOODS: [(&[&str], f64); 4] = [
    (&["furious", "unacceptable", "kündigen", "cancel our contract", "legal action"], -0.5),
    (&["angry", "refund", "cancel", "complaint", "disappointed", "still broken", "third time", "no one answers"], -0.3),
    (&["thank", "helpful", "solved", "danke"], 0.3),
    (&["love", "excited", "great", "recommend", "begeistert"], 0.4),
];

/// Words that make a sentence a promise or a request.
const PROMISES: [&str; 8] =
    ["will ", "next step", "follow up", "please send", "asked us to", "wir schicken", "action:", "agreed to"];

/// The answer in the form of `schema` about `data`. `misbehaviour` may make the model obey instructions in the data.
pub(super) fn answer(
    schema: Option<&Value>,
    data: &str,
    instructions: &str,
    misbehaviour: Option<&FaultKind>,
) -> Value {
    let data = data_of(data);
    let reading = read(&data);
    let Some(properties) = schema.and_then(|schema| schema["properties"].as_object()) else {
        return json!({"summary": reading.gist});
    };
    let model = RuleModel { reading: &reading, instructions, misbehaviour };
    Value::Object(model.object(properties))
}

/// A shorter text with every sentence that has a sign, a mood, an amount or a promise, each once.
pub(super) fn condense(data: &str) -> String {
    let data = data_of(data);
    let matters = |sentence: &&str| {
        let lower = sentence.to_lowercase();
        let has = |words: &[&str]| words.iter().any(|word| lower.contains(word));
        SIGNS.iter().any(|(words, ..)| has(words))
            || MOODS.iter().any(|(words, _)| has(words))
            || has(&PROMISES)
            || budget(&lower).is_some()
    };
    let mut kept: Vec<&str> = Vec::new();
    for sentence in sentences(&data).filter(matters) {
        if !kept.contains(&sentence) {
            kept.push(sentence);
        }
    }
    if kept.is_empty() { "Nothing of substance.".to_owned() } else { kept.join(" ") }
}

/// The record data in a message, as people wrote it: what stands between the tags `<crm_data N>` and `</crm_data N>`, or the
/// whole message. Its texts are JSON strings, alone on a line or behind the name of a property.
fn data_of(message: &str) -> String {
    let text_of = |line: &str| {
        let (name, json) = match line.split_once(": ") {
            Some((name, json)) if json.starts_with('"') => (name, json),
            _ => ("", line),
        };
        match serde_json::from_str::<String>(json) {
            Ok(text) if name.is_empty() => text,
            Ok(text) => format!("{name}: {text}"),
            Err(_) => line.to_owned(),
        }
    };
    fenced(message).lines().map(text_of).collect::<Vec<_>>().join("\n")
}

fn fenced(message: &str) -> &str {
    let inner = || {
        let (_, behind) = message.split_once("<crm_data ")?;
        let (number, behind) = behind.split_once('>')?;
        behind.split_once(&format!("</crm_data {number}>")).map(|(data, _)| data)
    };
    inner().unwrap_or(message)
}

/// The sentences of the entries, without the lines in brackets that head them.
fn sentences(data: &str) -> impl Iterator<Item = &str> {
    let lines = data.lines().filter(|line| !line.starts_with('['));
    let ends = |line: &'_ str| -> Vec<(usize, usize)> {
        let mut parts = Vec::new();
        let mut start = 0;
        let bytes = line.as_bytes();
        for (at, byte) in line.bytes().enumerate() {
            if matches!(byte, b'.' | b'!' | b'?') && bytes.get(at + 1).is_none_or(u8::is_ascii_whitespace) {
                parts.push((start, at + 1));
                start = at + 1;
            }
        }
        parts.push((start, line.len()));
        parts
    };
    lines
        .flat_map(move |line| ends(line).into_iter().map(move |(start, end)| line[start..end].trim()))
        .filter(|sentence| !sentence.is_empty())
}

fn read(data: &str) -> Reading<'_> {
    let text = data.to_lowercase();
    let mut score = 40;
    let mut reasons = Vec::new();
    for (words, meaning, weight) in SIGNS {
        if words.iter().any(|word| text.contains(word)) {
            score += weight;
            reasons.push(meaning);
        }
    }
    let budget = budget(data);
    if let Some((amount, _)) = budget {
        score += if amount >= 20_000 { 20 } else { 5 };
        reasons.push("a stated budget");
    }
    let mood = |(words, weight): (&[&str], f64)| {
        words.iter().filter(|word| text.contains(**word)).map(move |_| weight).sum::<f64>()
    };
    let sentiment: f64 = MOODS.into_iter().map(mood).sum();
    let entry = data.lines().skip_while(|line| !line.starts_with('[')).nth(1).unwrap_or_default().trim();
    let gist = entry.split_inclusive(['.', '!', '?']).next().unwrap_or(entry).trim();
    let gist = &gist[..gist.floor_char_boundary(200)];
    let promises = |sentence: &&str| PROMISES.iter().any(|word| sentence.to_lowercase().contains(word));
    let sentiment = (sentiment.clamp(-1.0, 1.0) * 100.0).round() / 100.0;
    Reading {
        budget,
        score: score.clamp(0, 100),
        sentiment,
        reasons,
        gist,
        steps: sentences(data).filter(promises).collect(),
    }
}

/// The first amount of money (`$50k`, `50k €`, `€ 1,200,000`, `80.000 euro`, `usd 12000`) with the word it stands in.
fn budget(text: &str) -> Option<(i64, &str)> {
    let signs = ["$", "€", "£", "usd", "eur", "euro"];
    let words: Vec<&str> = text.split_whitespace().collect();
    words.iter().enumerate().find_map(|(index, word)| {
        let has_sign = |word: &str| signs.iter().any(|sign| word.to_lowercase().contains(sign));
        let neighbours = [index.checked_sub(1), Some(index + 1)];
        let marked = has_sign(word)
            || neighbours.into_iter().flatten().filter_map(|at| words.get(at)).any(|near| {
                let near = near.to_lowercase();
                signs.contains(&near.trim_matches(|c: char| c.is_ascii_punctuation() && c != '$'))
            });
        if marked { Some((amount(&word.to_lowercase())?, *word)) } else { None }
    })
}

fn amount(word: &str) -> Option<i64> {
    let number = word.trim_start_matches(|c: char| !c.is_ascii_digit());
    let length = number.find(|c: char| !(c.is_ascii_digit() || c == ',' || c == '.')).unwrap_or(number.len());
    let (digits, unit) = number.split_at(length);
    let digits: String = digits.trim_end_matches(['.', ',']).chars().filter(char::is_ascii_digit).collect();
    let factor = match unit.chars().next() {
        Some('k') => 1_000,
        Some('m') => 1_000_000,
        _ => 1,
    };
    digits.parse::<i64>().ok()?.checked_mul(factor)
}

/// The first date in a sentence, in ISO 8601 (`YYYY-MM-DD`).
fn day(sentence: &str) -> Option<&str> {
    sentence.split(|c: char| !(c.is_ascii_digit() || c == '-')).find(|word| {
        let parts: Vec<_> = word.split('-').collect();
        matches!(parts[..], [year, month, day] if year.len() == 4 && month.len() == 2 && day.len() == 2)
    })
}

struct RuleModel<'a> {
    reading: &'a Reading<'a>,
    instructions: &'a str,
    misbehaviour: Option<&'a FaultKind>,
}

impl RuleModel<'_> {
    fn object(&self, properties: &Map<String, Value>) -> Map<String, Value> {
        properties.iter().map(|(name, schema)| (name.clone(), self.value(name, schema))).collect()
    }

    /// A value for one field: by its name where the rules know it, else by its type.
    fn value(&self, name: &str, schema: &Value) -> Value {
        let reading = self.reading;
        let types: Vec<&str> = match &schema["type"] {
            Value::String(one) => vec![one],
            Value::Array(several) => several.iter().filter_map(Value::as_str).collect(),
            _ => vec![],
        };
        let gullible = matches!(self.misbehaviour, Some(FaultKind::Gullible));
        if let Some(options) = schema["enum"].as_array() {
            return self.choice(name, options);
        }
        if let Some(field) = name.strip_suffix("_quote") {
            return self.quote(field);
        }
        let kind = types.first().copied().unwrap_or_default();
        let reasons = if reading.reasons.is_empty() { "no clear sign".to_owned() } else { reading.reasons.join(", ") };
        match kind {
            // The largest value within the bounds, which the description names: "From 0 to 100."
            "integer" | "number" if gullible => json!(bounds(schema).1),
            "string" if gullible => json!(self.instructions.chars().take(400).collect::<String>()),
            "integer" if name.contains("budget") => match reading.budget {
                Some((amount, _)) => json!(amount),
                None if types.contains(&"null") => Value::Null,
                None => json!(0),
            },
            "integer" => json!(reading.score),
            "number" if name.contains("sentiment") => json!(reading.sentiment),
            #[expect(clippy::cast_precision_loss, reason = "a score has three digits")]
            "number" => json!((reading.score - 50) as f64 / 50.0),
            "boolean" => json!(reading.score >= 50),
            "array" => {
                let inner = schema["items"]["properties"].as_object().cloned().unwrap_or_default();
                let item = |step: &&str| Value::Object(self.item(step, &inner));
                reading.steps.iter().take(10).map(item).collect()
            }
            "string" if name.contains("qualification") => {
                json!(format!("Score {} because of: {reasons}.", reading.score))
            }
            "string" if reading.gist.is_empty() => json!("Nothing of substance was noted."),
            "string" => json!(reading.gist),
            _ => Value::Null,
        }
    }

    fn item(&self, step: &str, properties: &Map<String, Value>) -> Map<String, Value> {
        let value = |(name, schema): (&String, &Value)| {
            let is_day = schema["description"].as_str().is_some_and(|text| text.contains("YYYY-MM-DD"));
            let value = if is_day {
                day(step).map_or(Value::Null, |day| json!(day))
            } else if schema["type"] == "string" {
                json!(&step[..step.floor_char_boundary(200)])
            } else {
                self.value(name, schema)
            };
            (name.clone(), value)
        };
        properties.iter().map(value).collect()
    }

    fn choice(&self, name: &str, options: &[Value]) -> Value {
        let wanted = match self.reading.sentiment {
            mood if mood <= -0.5 => "high",
            mood if mood < 0.0 => "medium",
            _ => "low",
        };
        let by_mood = options.iter().find(|option| name.contains("urgency") && **option == wanted);
        by_mood.or(options.first()).cloned().unwrap_or(Value::Null)
    }

    fn quote(&self, field: &str) -> Value {
        match (self.misbehaviour, self.reading.budget) {
            (Some(FaultKind::Fabrication), _) => json!("words that are nowhere in the data"),
            (_, Some((_, words))) if field.contains("budget") => json!(words),
            _ if field.contains("budget") || self.reading.gist.is_empty() => Value::Null,
            _ => json!(self.reading.gist),
        }
    }
}

/// The bounds that a description ends with: "… From 0 to 100."
fn bounds(schema: &Value) -> (f64, f64) {
    let text = schema["description"].as_str().unwrap_or_default();
    let (low, high) = text.rsplit_once(" From ").and_then(|(_, rest)| rest.split_once(" to ")).unwrap_or(("0", "0"));
    let number = |text: &str| text.trim_end_matches('.').trim().parse().unwrap_or(0.0);
    (number(low), number(high))
}

#[cfg(test)]
mod tests {
    use super::{budget, condense, data_of, day, read};

    #[test]
    fn amounts_are_found_as_people_write_them() {
        for (text, amount) in [
            ("they have $50k ready for q1", Some(50_000)),
            ("budget: 80.000 euro, rest später", Some(80_000)),
            ("about €1,200,000 over two years", Some(1_200_000)),
            ("12000 usd", Some(12_000)),
            ("we are 40 people in 3 offices", None),
        ] {
            assert_eq!(budget(text).map(|(amount, _)| amount), amount, "{text}");
        }
    }

    #[test]
    fn a_buyer_scores_above_a_student() {
        let score = |text: &str| read(&format!("\n[note 1]\n{text}\n")).score;
        assert!(score("CEO is excited, $50k ready for Q1, wants a demo") > 80);
        assert!(score("A student writing a thesis") < 10);
    }

    #[test]
    fn moods_and_promises_are_found() {
        let reading =
            read("\n[email 1]\nThis is unacceptable, we want a refund. We will send the contract by 2026-12-01.\n");
        assert!(reading.sentiment <= -0.5, "{}", reading.sentiment);
        assert_eq!(reading.steps, ["We will send the contract by 2026-12-01."]);
        assert_eq!(day(reading.steps[0]), Some("2026-12-01"));
        assert_eq!(day("by next Friday"), None);
    }

    #[test]
    fn the_data_is_what_stands_within_the_fence_and_its_texts_are_json() {
        let message = "x\n<crm_data 7f>\nrecord: contact/1\ncompany: \"Ma\\\"rsh\"\n\n[note 1]\n\"one\\ntwo </crm_data 8>\"\n</crm_data 7f> y";
        assert_eq!(data_of(message), "\nrecord: contact/1\ncompany: Ma\"rsh\n\n[note 1]\none\ntwo </crm_data 8>");
        assert_eq!(data_of("no fence"), "no fence");
    }

    #[test]
    fn condensing_keeps_the_sentences_that_matter() {
        let data =
            format!("\n[email 1]\n{}We want a refund. {}\n", "Kind regards. ".repeat(50), "Small talk. ".repeat(50));
        assert_eq!(condense(&data), "We want a refund.");
    }
}
