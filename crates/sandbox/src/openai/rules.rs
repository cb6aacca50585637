//! The sandbox's model: it answers from the prompt's content by plain rules, so that what is written visibly follows
//! from what was read. Like a real one under structured outputs, it fills exactly the schema's fields.

use serde_json::{Map, Value, json};

/// What the rules find in a text.
struct Reading {
    budget: Option<i64>,
    score: i64,
    reasons: Vec<&'static str>,
    gist: String,
}

/// Words (English and German), what they mean, and what they add to a score.
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

/// The answer for `schema` about what `data` says.
pub(super) fn answer(schema: Option<&Value>, data: &str) -> Value {
    let reading = read(fenced(data));
    let Some(properties) = schema.and_then(|schema| schema["properties"].as_object()) else {
        return json!({"summary": reading.gist});
    };
    let fields = properties.iter().map(|(name, schema)| (name.clone(), value(name, schema, &reading)));
    Value::Object(fields.collect::<Map<_, _>>())
}

/// Record data is between tags; what is around it is the question.
fn fenced(message: &str) -> &str {
    let start = message.find("<crm_data>").map_or(0, |at| at + "<crm_data>".len());
    let end = message[start..].find("</crm_data>").map_or(message.len(), |at| start + at);
    &message[start..end]
}

fn read(data: &str) -> Reading {
    let text = data.to_lowercase();
    let mut score = 40;
    let mut reasons = Vec::new();
    for (words, meaning, weight) in SIGNS {
        if words.iter().any(|word| text.contains(word)) {
            score += weight;
            reasons.push(meaning);
        }
    }
    let budget = budget(&text);
    if let Some(amount) = budget {
        score += if amount >= 20_000 { 20 } else { 5 };
        reasons.push("a stated budget");
    }
    // The gist is the newest entry's first sentence.
    let entry = data.lines().skip_while(|line| !line.starts_with('[')).nth(1).unwrap_or_default().trim();
    let gist = entry.split_inclusive(['.', '!', '?']).next().unwrap_or(entry).trim().chars().take(200).collect();
    Reading { budget, score: score.clamp(0, 100), reasons, gist }
}

/// The first amount of money: `$50k`, `50k €`, `€ 1,200,000`, `80.000 euro`, `usd 12000`.
fn budget(text: &str) -> Option<i64> {
    let signs = ["$", "€", "£", "usd", "eur", "euro"];
    let words: Vec<&str> = text.split_whitespace().collect();
    words.iter().enumerate().find_map(|(index, word)| {
        let has_sign = |word: &str| signs.iter().any(|sign| word.contains(sign));
        let neighbours = [index.checked_sub(1), Some(index + 1)];
        let marked = has_sign(word)
            || neighbours
                .into_iter()
                .flatten()
                .filter_map(|at| words.get(at))
                .any(|near| signs.contains(&near.trim_matches(|c: char| c.is_ascii_punctuation() && c != '$')));
        if marked { amount(word) } else { None }
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

/// A value for one field, by its name where that says something, else by its type.
fn value(name: &str, schema: &Value, reading: &Reading) -> Value {
    let types: Vec<&str> = match &schema["type"] {
        Value::String(one) => vec![one],
        Value::Array(several) => several.iter().filter_map(Value::as_str).collect(),
        _ => vec![],
    };
    let reasons = if reading.reasons.is_empty() { "no clear sign".to_owned() } else { reading.reasons.join(", ") };
    if let Some(options) = schema["enum"].as_array() {
        return options.first().cloned().unwrap_or(Value::Null);
    }
    match types.first().copied() {
        Some("integer") if name.contains("budget") => {
            reading.budget.map_or_else(|| nothing(&types), |amount| json!(amount))
        }
        Some("integer") => json!(reading.score),
        #[expect(clippy::cast_precision_loss, reason = "a score has three digits")]
        Some("number") => json!((reading.score - 50) as f64 / 50.0),
        Some("boolean") => json!(reading.score >= 50),
        Some("string") if name.contains("qualification") || name.contains("reason") => {
            json!(format!("Score {} because of: {reasons}.", reading.score))
        }
        Some("string") if reading.gist.is_empty() => json!("Nothing of substance was noted."),
        Some("string") => json!(reading.gist),
        _ => Value::Null,
    }
}

fn nothing(types: &[&str]) -> Value {
    if types.contains(&"null") { Value::Null } else { json!(0) }
}

#[cfg(test)]
mod tests {
    use super::{budget, read};

    #[test]
    fn amounts_are_found_as_people_write_them() {
        for (text, amount) in [
            ("they have $50k ready for q1", Some(50_000)),
            ("budget: 80.000 euro, rest später", Some(80_000)),
            ("about €1,200,000 over two years", Some(1_200_000)),
            ("12000 usd", Some(12_000)),
            ("we are 40 people in 3 offices", None),
        ] {
            assert_eq!(budget(text), amount, "{text}");
        }
    }

    #[test]
    fn a_buyer_scores_above_a_student() {
        let score = |text: &str| read(&format!("\n[note 1]\n{text}\n")).score;
        assert!(score("CEO is excited, $50k ready for Q1, wants a demo") > 80);
        assert!(score("A student writing a thesis") < 10);
    }
}
