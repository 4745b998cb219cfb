//! From when until when a certificate is good: the one field of it that the relay reads itself (RFC 5280 §4.1), by walking its DER.

use shadowmesh_proto::calendar::{DAY, Day};
use std::time::{Duration, SystemTime};

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
/// `[0] EXPLICIT`, the version.
const VERSION: u8 = 0xa0;

/// Begin and end of the validity of a certificate in DER; nothing when it has none that parses.
///
/// ```text
/// Certificate ::= SEQUENCE { tbsCertificate SEQUENCE { [0] version OPTIONAL, serialNumber INTEGER, signature SEQUENCE, issuer SEQUENCE,
///                            validity SEQUENCE { notBefore Time, notAfter Time }, … }, … }
/// ```
pub(super) fn validity(der: &[u8]) -> Option<(SystemTime, SystemTime)> {
    let (certificate, _) = value(der, SEQUENCE)?;
    let (mut rest, _) = value(certificate, SEQUENCE)?;
    if let Some((_, after)) = value(rest, VERSION) {
        rest = after;
    }
    for tag in [INTEGER, SEQUENCE, SEQUENCE] {
        (_, rest) = value(rest, tag)?;
    }
    let (validity, _) = value(rest, SEQUENCE)?;
    let (begin, rest) = time(validity)?;
    let (end, _) = time(rest)?;
    Some((begin, end))
}

/// A time, and what follows it. Those before 1970 are that.
fn time(der: &[u8]) -> Option<(SystemTime, &[u8])> {
    let (tag, text, after) = element(der)?;
    let text = std::str::from_utf8(text).ok()?.strip_suffix('Z')?;
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let (year, rest) = match tag {
        // RFC 5280 §4.1.2.5.1: 50 to 99 are of the last century.
        UTC_TIME if text.len() == 12 => {
            let (year, rest) = text.split_at_checked(2)?;
            let year: u64 = year.parse().ok()?;
            (if year < 50 { 2000 + year } else { 1900 + year }, rest)
        }
        GENERALIZED_TIME if text.len() == 14 => {
            let (year, rest) = text.split_at_checked(4)?;
            (year.parse().ok()?, rest)
        }
        _ => return None,
    };
    let field = |at: usize| rest.get(at..at + 2).and_then(|digits| digits.parse::<u64>().ok());
    let (month, day) = (field(0)?, field(2)?);
    let (hour, minute, second) = (field(4)?, field(6)?, field(8)?);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let days = Day { year, month, day }.since_1970();
    let seconds = days.map_or(0, |days| days * DAY + hour * 3_600 + minute * 60 + second);
    Some((SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds))?, after))
}

/// The contents of an element of this tag at the front of `der`, and what follows it.
fn value(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (found, contents, rest) = element(der)?;
    (found == tag).then_some((contents, rest))
}

/// Tag, contents, rest. Lengths of up to four bytes, which is what fits memory.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (tag, rest) = der.split_first()?;
    let (first, rest) = rest.split_first()?;
    let (len, rest) = match first {
        0..=0x7f => (usize::from(*first), rest),
        0x81..=0x84 => {
            let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (bytes.iter().fold(0, |len, byte| len << 8 | usize::from(*byte)), rest)
        }
        _ => return None,
    };
    let (contents, rest) = rest.split_at_checked(len)?;
    Some((*tag, contents, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    fn made(year: i32, month: u8, day: u8) -> Vec<u8> {
        let mut params = CertificateParams::new(vec!["relay.example".into()]).unwrap();
        params.not_after = date_time_ymd(year, month, day);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    fn unix(der: &[u8]) -> Option<u64> {
        Some(validity(der)?.1.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs())
    }

    #[test]
    fn the_end_is_read_in_both_forms_and_over_leap_days() {
        // date -u -d 2049-12-31 +%s, and so on; from 2050 on it is GeneralizedTime.
        for (date, seconds) in [
            ((2049, 12, 31), 2_524_521_600),
            ((2050, 1, 1), 2_524_608_000),
            ((2024, 2, 29), 1_709_164_800),
            ((2100, 3, 1), 4_107_542_400),
            ((1999, 12, 31), 946_598_400),
        ] {
            let (year, month, day) = date;
            assert_eq!(unix(&made(year, month, day)), Some(seconds), "{date:?}");
        }
    }

    #[test]
    fn what_is_cut_has_no_end() {
        let der = made(2030, 5, 6);
        for len in 0..der.len() {
            assert_eq!(validity(&der[..len]), None, "{len}");
        }
    }

    #[test]
    fn the_begin_is_read_and_what_is_before_1970_is_1970() {
        let mut params = CertificateParams::new(vec!["relay.example".into()]).unwrap();
        for (year, seconds) in [(2024, 1_704_067_200), (1950, 0)] {
            params.not_before = date_time_ymd(year, 1, 1);
            let made = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
            let (begins, _) = validity(made.der()).unwrap();
            assert_eq!(begins, SystemTime::UNIX_EPOCH + Duration::from_secs(seconds), "{year}");
        }
    }

    proptest! {
        #[test]
        fn damage_is_read_or_refused(at in 0usize..400, byte: u8) {
            let mut der = made(2030, 5, 6);
            if let Some(place) = der.get_mut(at) {
                *place = byte;
            }
            let _ = validity(&der);
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = validity(&bytes);
        }
    }
}
