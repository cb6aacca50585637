//! SHA-256 digests in lower-case hex.

use std::fmt::Write as _;

use sha2::{Digest, Sha256};

/// The SHA-256 of `parts` joined without a separator: 64 lower-case hex digits.
pub fn sha256_hex(parts: &[&[u8]]) -> String {
    let mut digest = Sha256::new();
    parts.iter().for_each(|part| digest.update(part));
    hex(digest)
}

/// The SHA-256 of a list of texts: 64 lower-case hex digits. Each text is preceded by its length in bytes, so that the
/// lists `["ab", "c"]` and `["a", "bc"]` have different digests.
pub fn sha256_hex_of_list<'a>(texts: impl IntoIterator<Item = &'a str>) -> String {
    let mut digest = Sha256::new();
    for text in texts {
        digest.update(text.len().to_le_bytes());
        digest.update(text.as_bytes());
    }
    hex(digest)
}

fn hex(digest: Sha256) -> String {
    let bytes = digest.finalize();
    let mut hex = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        let _ = write!(hex, "{byte:02x}");
    }
    hex
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_of_joined_parts_is_the_digest_of_the_whole() {
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(sha256_hex(&[b"abc"]), abc, "the test vector of FIPS 180-2");
        assert_eq!(sha256_hex(&[b"a", b"bc"]), abc);
    }

    #[test]
    fn lists_that_split_the_same_text_differently_have_different_digests() {
        assert_ne!(sha256_hex_of_list(["ab", "c"]), sha256_hex_of_list(["a", "bc"]));
        assert_eq!(sha256_hex_of_list(["ab", "c"]), sha256_hex_of_list(["ab", "c"]));
    }
}
