//! A closed set of names: each variant, its name for the outside and its meaning are written once.

/// Declares an enum whose variants have a name (SQL, metric labels, headers) and an explanation (documentation, CLI).
macro_rules! closed_set {
    ($(#[$attribute:meta])* pub enum $set:ident { $($variant:ident = $name:literal, $explanation:literal;)* }) => {
        $(#[$attribute])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $set {
            $(#[doc = $explanation] $variant,)*
        }

        impl $set {
            /// Every member, in the order of the documentation.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The name in the ledger, in metrics and in messages.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }

            /// The meaning in one sentence.
            pub const fn explanation(self) -> &'static str {
                match self {
                    $(Self::$variant => $explanation,)*
                }
            }

            /// The member with this name; `None` when there is none.
            pub fn parse(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|member| member.as_str() == name)
            }
        }

        impl std::fmt::Display for $set {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }
    };
}

pub(crate) use closed_set;
