//! A message and its form in AMQP.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use domain::MessageBody;
use lapin::{
    BasicProperties,
    types::{AMQPValue, FieldTable, LongString, ShortString},
};
use retry::Reason;
use spans::TraceHeaders;
use uuid::Uuid;

use crate::route::Stage;

const ATTEMPTS: &str = "x-leadline-attempts";
const COPY_ID: &str = "x-leadline-copy-id";
const VERSION: &str = "x-leadline-version";
const REASON: &str = "x-leadline-reason";
const DETAIL: &str = "x-leadline-detail";

/// The longest detail, in characters. Details are for people; a longer one is cut.
const MAX_DETAIL: usize = 500;

/// A message: a body, and headers that the fleet reads without parsing the body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// An event key or a write command's id, so that people find the message in the management UI.
    pub id: String,
    /// Tells copies of the same message apart: a retry and a redelivery keep it; an event that HubSpot delivers again makes a
    /// message with another one. Nil for a message that another program published.
    pub copy_id: Uuid,
    /// The version of the body's form ([`MessageBody::VERSION`]). `None` for a message from before there were versions, for one that
    /// another program published, and for bytes of a webhook.
    pub version: Option<u16>,
    /// JSON; in a parking lot it may be bytes of a webhook that could not be read.
    pub body: Vec<u8>,
    /// How many attempts to process it failed.
    pub attempts: u32,
    /// Why it is in a retry queue or a parking lot, in `snake_case`.
    pub reason: Option<String>,
    /// The reason in words.
    pub detail: Option<String>,
    /// The trace context it carries. If empty, publishing adds that of the current span.
    pub(crate) trace: TraceHeaders,
}

impl Message {
    /// A new message with this body, in the version of its form that this program writes.
    ///
    /// # Errors
    /// The body cannot be encoded.
    pub fn of<B: MessageBody>(id: impl Into<String>, body: &B) -> Result<Self, serde_json::Error> {
        Ok(Self::in_form_of::<B>(id, serde_json::to_vec(body)?))
    }

    /// A new message whose body is `B` in JSON already.
    pub fn in_form_of<B: MessageBody>(id: impl Into<String>, body: Vec<u8>) -> Self {
        Self { version: Some(B::VERSION), ..Self::new(id, body) }
    }

    /// A new message with bytes that have no version, and without headers.
    pub fn new(id: impl Into<String>, body: Vec<u8>) -> Self {
        Self {
            id: id.into(),
            copy_id: Uuid::now_v7(),
            version: None,
            body,
            attempts: 0,
            reason: None,
            detail: None,
            trace: TraceHeaders::default(),
        }
    }

    /// Adds why the message goes to a retry queue or a parking lot.
    #[must_use]
    pub fn with_reason(mut self, reason: Reason, detail: &str) -> Self {
        self.reason = Some(reason.as_str().to_owned());
        self.detail = Some(detail.chars().take(MAX_DETAIL).collect());
        self
    }

    /// Whether its form is newer than this program knows. In the queues of `stage` it waits for a newer one.
    pub fn is_newer_than_known(&self, stage: Stage) -> bool {
        self.version.is_some_and(|version| version > stage.version())
    }

    /// How long ago the first copy of it was made, by its [`Message::copy_id`]. Zero where that does not tell.
    pub fn age(&self) -> Duration {
        let made = self.copy_id.get_timestamp().and_then(|made| {
            let (seconds, nanoseconds) = made.to_unix();
            UNIX_EPOCH.checked_add(Duration::new(seconds, nanoseconds))
        });
        made.and_then(|made| made.elapsed().ok()).unwrap_or_default()
    }

    /// The trace context it carries.
    pub(crate) fn trace(&self) -> &TraceHeaders {
        &self.trace
    }

    pub(crate) fn properties(&self) -> BasicProperties {
        const PERSISTENT: u8 = 2;
        let mut headers = FieldTable::default();
        headers.insert(ATTEMPTS.into(), AMQPValue::LongLongInt(self.attempts.into()));
        headers.insert(COPY_ID.into(), AMQPValue::LongString(LongString::from(self.copy_id.to_string())));
        if let Some(version) = self.version {
            headers.insert(VERSION.into(), AMQPValue::LongLongInt(version.into()));
        }
        for (name, value) in [(REASON, &self.reason), (DETAIL, &self.detail)] {
            if let Some(value) = value {
                headers.insert(name.into(), AMQPValue::LongString(LongString::from(value.as_str())));
            }
        }
        let trace = if self.trace.is_empty() { &spans::current_headers() } else { &self.trace };
        for (name, value) in trace.iter() {
            headers.insert(name.into(), AMQPValue::LongString(LongString::from(value)));
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        BasicProperties::default()
            .with_delivery_mode(PERSISTENT)
            .with_content_type("application/json".into())
            .with_message_id(short_string(&self.id))
            .with_timestamp(now.map_or(0, |since| since.as_secs()))
            .with_headers(headers)
    }

    pub(crate) fn from_parts(properties: &BasicProperties, body: Vec<u8>) -> Self {
        let headers = properties.headers().as_ref();
        let text = |name: &str| match headers?.inner().get(name)? {
            AMQPValue::LongString(value) => Some(String::from_utf8_lossy(value.as_bytes()).into_owned()),
            _ => None,
        };
        let number = |name: &str| match headers?.inner().get(name)? {
            AMQPValue::LongLongInt(number) => Some(*number),
            _ => None,
        };
        Self {
            id: properties.message_id().as_ref().map(ToString::to_string).unwrap_or_default(),
            copy_id: text(COPY_ID).and_then(|id| id.parse().ok()).unwrap_or_default(),
            version: number(VERSION).map(|version| u16::try_from(version).unwrap_or(u16::MAX)),
            body,
            attempts: number(ATTEMPTS).and_then(|attempts| u32::try_from(attempts).ok()).unwrap_or(0),
            reason: text(REASON),
            detail: text(DETAIL),
            trace: TraceHeaders::read(text),
        }
    }
}

/// Cuts a text to the 255 bytes that an AMQP short string holds. An event key with a very long property name may be longer.
fn short_string(text: &str) -> ShortString {
    ShortString::from(&text[..text.floor_char_boundary(255)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_the_same_after_encoding_and_decoding() {
        let mut message = Message::new("key", b"[1]".to_vec()).with_reason(Reason::ValidationError, "lead_score");
        (message.attempts, message.version) = (3, Some(2));
        let traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        message.trace = TraceHeaders::read(|name| (name == "traceparent").then(|| traceparent.to_owned()));
        assert_eq!(Message::from_parts(&message.properties(), message.body.clone()), message);
    }

    #[test]
    fn the_age_of_a_message_is_that_of_its_first_copy_where_it_has_one() {
        let mut message = Message::new("key", vec![]);
        assert!(message.age() < Duration::from_secs(60));
        message.copy_id = "01800000-0000-7000-8000-000000000100".parse().expect("an id");
        assert!(message.age() > Duration::from_secs(365 * 86_400));
        message.copy_id = Uuid::nil();
        assert_eq!(message.age(), Duration::ZERO);
    }

    #[test]
    fn a_long_id_is_cut_between_characters_and_missing_headers_are_accepted() {
        let message = Message::new("ü".repeat(200), vec![]);
        let cut = Message::from_parts(&message.properties(), vec![]).id;
        assert_eq!(cut.chars().count(), 127);
        let bare = Message::from_parts(&BasicProperties::default(), vec![]);
        assert_eq!(bare, Message { copy_id: Uuid::nil(), ..Message::new("", vec![]) });
    }
}
