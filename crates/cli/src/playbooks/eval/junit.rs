//! The results as JUnit XML, which CI servers show: a suite for each model, a test for each answer.

use std::io;

use quick_xml::{
    Writer,
    events::{BytesDecl, BytesText, Event},
};

use super::report::{BaselineReport, CaseAnswer, EvalReport, ModelReport};
use crate::print::visible;

/// The XML of a report. Without a baseline every answer that misses an expectation is a failed test; with one, what fell too far
/// below it is, because misses are allowed then.
pub fn xml(report: &EvalReport) -> io::Result<Vec<u8>> {
    let mut writer = Writer::new_with_indent(Vec::new(), b' ', 2);
    writer.write_event(Event::Decl(BytesDecl::new("1.0", Some("UTF-8"), None)))?;
    writer
        .create_element("testsuites")
        .with_attribute(("name", &*format!("{}@{}", report.playbook, report.version)))
        .write_inner_content(|writer| {
        for model in &report.models {
            write_model(writer, report, model)?;
        }
        report.baseline.as_ref().map_or(Ok(()), |baseline| write_baseline(writer, baseline))
    })?;
    let mut xml = writer.into_inner();
    xml.push(b'\n');
    Ok(xml)
}

fn write_model(writer: &mut Writer<Vec<u8>>, report: &EvalReport, model: &ModelReport) -> io::Result<()> {
    let misses_fail = report.baseline.is_none();
    let failed = model.answers.iter().filter(|answer| misses_fail && answer.failure.is_none() && !answer.is_whole());
    write_suite(writer, &model.model, model.answers.len(), failed.count(), model.failures, |writer| {
        for answer in &model.answers {
            let name = match report.repeat {
                1 => answer.case.clone(),
                _ => format!("{} ({} of {})", answer.case, answer.repetition, report.repeat),
            };
            let class = format!("{}.{}", report.playbook, model.model);
            writer
                .create_element("testcase")
                .with_attribute(("name", &*text(&name)))
                .with_attribute(("classname", &*text(&class)))
                .with_attribute(("time", &*seconds(answer.latency_ms)))
                .write_inner_content(|writer| write_outcome(writer, answer, misses_fail))?;
        }
        Ok(())
    })
}

fn write_outcome(writer: &mut Writer<Vec<u8>>, answer: &CaseAnswer, misses_fail: bool) -> io::Result<()> {
    if let Some(why) = &answer.failure {
        return write_message(writer, "error", "no answer that can be judged", why);
    }
    let missed = answer.checks.iter().filter(|check| !check.is_met);
    let lines: Vec<_> =
        missed.map(|check| format!("{}: expected {}, got {}", check.field, check.expected, check.actual)).collect();
    match lines.first() {
        None => Ok(()),
        Some(first) if misses_fail => write_message(writer, "failure", first, &lines.join("\n")),
        Some(_) => {
            let lines = lines.iter().map(|line| text(line)).collect::<Vec<_>>().join("\n");
            writer.create_element("system-out").write_text_content(BytesText::new(&lines)).map(|_| ())
        }
    }
}

fn write_baseline(writer: &mut Writer<Vec<u8>>, baseline: &BaselineReport) -> io::Result<()> {
    let failures = usize::from(!baseline.drops.is_empty());
    write_suite(writer, "baseline", 1, failures, 0, |writer| {
        let name = format!("at most {} percentage points below {}", baseline.max_drop, baseline.file);
        writer
            .create_element("testcase")
            .with_attribute(("name", &*text(&name)))
            .with_attribute(("classname", "baseline"))
            .write_inner_content(|writer| match baseline.drops.first() {
                Some(first) => write_message(writer, "failure", first, &baseline.drops.join("\n")),
                None => Ok(()),
            })?;
        Ok(())
    })
}

fn write_suite(
    writer: &mut Writer<Vec<u8>>,
    name: &str,
    tests: usize,
    failures: usize,
    errors: usize,
    content: impl FnOnce(&mut Writer<Vec<u8>>) -> io::Result<()>,
) -> io::Result<()> {
    let [tests, failures, errors] = [tests, failures, errors].map(|count| count.to_string());
    let attributes = [("name", text(name)), ("tests", tests), ("failures", failures), ("errors", errors)];
    let attributes = attributes.iter().map(|(name, value)| (*name, &**value));
    writer.create_element("testsuite").with_attributes(attributes).write_inner_content(content).map(|_| ())
}

fn write_message(writer: &mut Writer<Vec<u8>>, kind: &str, message: &str, content: &str) -> io::Result<()> {
    let content = content.lines().map(text).collect::<Vec<_>>().join("\n");
    let element = writer.create_element(kind).with_attribute(("message", &*text(message)));
    element.write_text_content(BytesText::new(&content)).map(|_| ())
}

/// XML has no way to write most control characters, so they become escapes that people can read.
fn text(text: &str) -> String {
    visible(text).replace(['\u{fffe}', '\u{ffff}'], "\u{fffd}")
}

fn seconds(milliseconds: u64) -> String {
    format!("{}.{:03}", milliseconds / 1_000, milliseconds % 1_000)
}

#[cfg(test)]
mod tests {
    use quick_xml::{Reader, escape::resolve_predefined_entity, events::Event};

    use super::*;
    use crate::playbooks::eval::report::{Verdict, tests::answer};

    fn report(answers: Vec<CaseAnswer>, baseline: Option<BaselineReport>) -> EvalReport {
        EvalReport {
            format: 1,
            playbook: "leads".to_owned(),
            version: "v".to_owned(),
            repeat: 1,
            cases: Vec::new(),
            models: vec![ModelReport::of("gpt-4o".to_owned(), answers)],
            baseline,
            gate: None,
            verdict: Verdict::Good,
        }
    }

    /// Every element with its attributes and, behind a colon, every text, as an XML parser reads them.
    fn read(xml: &[u8]) -> Vec<String> {
        let mut reader = Reader::from_reader(xml);
        let mut read = Vec::new();
        let mut text = String::new();
        loop {
            let event = reader.read_event().expect("well-formed");
            match &event {
                Event::Text(part) => text.push_str(&part.decode().expect("UTF-8")),
                Event::GeneralRef(part) => {
                    let name = part.decode().expect("UTF-8");
                    text.push_str(resolve_predefined_entity(&name).expect("an entity of XML"));
                }
                _ => read.extend(Some(format!(": {}", std::mem::take(&mut text))).filter(|text| text.trim() != ":")),
            }
            match event {
                Event::Start(element) | Event::Empty(element) => {
                    let attributes = element.attributes().map(|attribute| {
                        let attribute = attribute.expect("well-formed");
                        let value = attribute.unescape_value().expect("escaped").into_owned();
                        format!(" {}={value}", String::from_utf8_lossy(attribute.key.as_ref()))
                    });
                    let name = String::from_utf8_lossy(element.name().as_ref()).into_owned();
                    read.push(name + &attributes.collect::<String>());
                }
                Event::Eof => return read,
                _ => {}
            }
        }
    }

    #[test]
    fn a_ci_server_sees_every_answer_with_what_it_missed() {
        let mut away = answer("c.toml", (0, 0), 5);
        away.failure = Some("401: no such key".to_owned());
        let report = report(vec![answer("a.toml", (1, 1), 1_234), answer("b.toml", (1, 2), 10), away], None);
        let read = read(&xml(&report).expect("XML"));
        assert_eq!(
            read,
            [
                "testsuites name=leads@v",
                "testsuite name=gpt-4o tests=3 failures=1 errors=1",
                "testcase name=a.toml classname=leads.gpt-4o time=1.234",
                "testcase name=b.toml classname=leads.gpt-4o time=0.010",
                "failure message=field1: expected = 1, got 2",
                ": field1: expected = 1, got 2",
                "testcase name=c.toml classname=leads.gpt-4o time=0.005",
                "error message=no answer that can be judged",
                ": 401: no such key",
            ]
        );
    }

    #[test]
    fn with_a_baseline_a_miss_is_no_failure_and_a_drop_is_one() {
        let drops = vec!["gpt-4o: whole cases fell".to_owned()];
        let baseline = BaselineReport { file: "b.json".to_owned(), max_drop: 2.5, drops };
        let read = read(&xml(&report(vec![answer("a.toml", (0, 1), 1)], Some(baseline))).expect("XML"));
        assert!(read.contains(&"testsuite name=gpt-4o tests=1 failures=0 errors=0".to_owned()), "{read:?}");
        assert!(read.contains(&"testsuite name=baseline tests=1 failures=1 errors=0".to_owned()), "{read:?}");
        assert!(read.contains(&"failure message=gpt-4o: whole cases fell".to_owned()), "{read:?}");
    }

    #[test]
    fn no_text_of_a_model_breaks_out_of_the_xml() {
        let mut hostile = answer("a\"<&'>.toml", (0, 1), 1);
        hostile.checks[0].actual = "</failure><testsuite name=\"x\">]]>&amp;\u{0}\u{1b}\n\u{ffff}".to_owned();
        let report = report(vec![hostile], None);
        let bytes = xml(&report).expect("XML");
        let text = String::from_utf8(bytes.clone()).expect("UTF-8");
        assert!(text.chars().all(|character| character == '\n' || !character.is_control() && character != '\u{ffff}'));
        let read = read(&bytes);
        assert_eq!(read.iter().filter(|line| line.starts_with("testsuite ")).count(), 1, "{read:?}");
        assert!(read[2].starts_with("testcase name=a\"<&'>.toml classname"), "{read:?}");
        let message = "failure message=field0: expected = 1, got </failure><testsuite name=\"x\">]]>&amp;\\u{0}\\u{1b}\\n\u{fffd}";
        assert_eq!(read[3], message);
    }
}
