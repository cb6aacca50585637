//! Bodies in gzip, within bounds: a few kilobytes of it can become gigabytes.

use std::io::Read;

use flate2::read::MultiGzDecoder;

use crate::BodyError;

/// Whether the body is gzip, by its first bytes: no JSON begins with them, and gateways forget the header that says it.
pub(crate) fn is_gzip(body: &[u8]) -> bool {
    body.starts_with(b"\x1f\x8b")
}

/// What was compressed, of at most `max` bytes.
pub(crate) fn decompress(body: &[u8], max: usize) -> Result<Vec<u8>, BodyError> {
    let mut bytes = Vec::new();
    let one_more = u64::try_from(max).unwrap_or(u64::MAX).saturating_add(1);
    MultiGzDecoder::new(body).take(one_more).read_to_end(&mut bytes).map_err(BodyError::Compressed)?;
    if bytes.len() > max { Err(BodyError::TooLong(max)) } else { Ok(bytes) }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::{Compression, write::GzEncoder};

    use super::{decompress, is_gzip};
    use crate::BodyError;

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(text).expect("compressed");
        encoder.finish().expect("compressed")
    }

    #[test]
    fn gzip_is_decompressed_within_the_bound() {
        let body = gzip(b"{\"a\": 1}");
        assert!(is_gzip(&body) && !is_gzip(b"{}") && !is_gzip(b""));
        assert_eq!(decompress(&body, 8).expect("8 bytes"), b"{\"a\": 1}");
        assert!(matches!(decompress(&body, 7), Err(BodyError::TooLong(7))));
        let bomb = gzip(&vec![0; 50_000_000]);
        assert!(bomb.len() < 100_000 && matches!(decompress(&bomb, 1_000), Err(BodyError::TooLong(1_000))));
        assert!(matches!(decompress(&body[..12], 100), Err(BodyError::Compressed(_))));
    }
}
