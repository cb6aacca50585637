//! Enums whose values have names in SQL, in files or in an API.

/// Gives an enum its values (`ALL`) and the name of each (`as_str`, `Display`, `parse`) from one table. With
/// `without parse` the enum has no `parse`, because not every name may be accepted everywhere.
macro_rules! named_values {
    ($enum:ident { $($variant:ident => $name:literal),+ $(,)? }) => {
        $crate::names::named_values!($enum { $($variant => $name),+ } without parse);

        impl $enum {
            /// The value with this name; `None` for any other text.
            pub fn parse(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|value| value.as_str() == name)
            }
        }
    };
    ($enum:ident { $($variant:ident => $name:literal),+ $(,)? } without parse) => {
        impl $enum {
            /// Every value, in the order of declaration.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The value's name.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $name),+
                }
            }
        }

        impl std::fmt::Display for $enum {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }
    };
}

/// Declares an enum whose values have a name and an explanation, each written once: what operators filter by, and what
/// the documentation lists.
macro_rules! closed_set {
    ($(#[$attribute:meta])* pub enum $enum:ident { $($variant:ident = $name:literal, $explanation:literal;)* }) => {
        $(#[$attribute])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $enum {
            $(#[doc = $explanation] $variant,)*
        }

        $crate::names::named_values!($enum { $($variant => $name),* });

        impl $enum {
            /// The meaning in one sentence.
            pub const fn explanation(self) -> &'static str {
                match self {
                    $(Self::$variant => $explanation,)*
                }
            }
        }
    };
}

pub(crate) use closed_set;
pub(crate) use named_values;

#[cfg(test)]
mod tests {
    use std::fmt::Debug;

    use serde::Serialize;

    use crate::{
        event::EventKind,
        inference::InferenceOutcome,
        review::WriteMode,
        state::EventState,
        write_command::{TaskPriority, TaskType, WritePolicy},
    };

    fn assert_serialized_as<T: Serialize + Copy + Debug>(values: &[T], name: fn(T) -> &'static str) {
        for value in values {
            assert_eq!(serde_json::to_value(value).expect("serializes"), name(*value), "{value:?}");
        }
    }

    #[test]
    fn every_value_is_serialized_under_its_name() {
        assert_serialized_as(EventKind::ALL, EventKind::as_str);
        assert_serialized_as(InferenceOutcome::ALL, InferenceOutcome::as_str);
        assert_serialized_as(TaskPriority::ALL, TaskPriority::as_str);
        assert_serialized_as(TaskType::ALL, TaskType::as_str);
        assert_serialized_as(WritePolicy::ALL, WritePolicy::as_str);
        assert_serialized_as(WriteMode::ALL, WriteMode::as_str);
    }

    #[test]
    fn a_name_leads_back_to_its_value() {
        for state in EventState::ALL {
            assert_eq!(EventState::parse(state.as_str()), Some(*state));
        }
        assert_eq!(EventState::parse("Parked"), None);
    }

    #[test]
    fn no_webhook_can_claim_a_manual_event() {
        assert_eq!(EventKind::from_subscription("creation"), Some(EventKind::Creation));
        assert_eq!(EventKind::from_subscription("manual"), None);
    }
}
