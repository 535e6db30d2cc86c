//! The names in a certificate: of its subject alternative names those that Go lists as DNS names, mail addresses, IP addresses and
//! URIs. Only as much of DER is read as leads there; nothing recurses, and lengths are checked against what is there.

use std::net::{Ipv4Addr, Ipv6Addr};

/// Most names that are looked at.
const NAMES_MAX: usize = 1000;

const INTEGER: u8 = 0x02;
const OCTET_STRING: u8 = 0x04;
const OBJECT_IDENTIFIER: u8 = 0x06;
const BOOLEAN: u8 = 0x01;
const SEQUENCE: u8 = 0x30;
/// Version and extensions stand behind these tags.
const VERSION: u8 = 0xa0;
const EXTENSIONS: u8 = 0xa3;

/// `2.5.29.17`
const SUBJECT_ALT_NAME: [u8; 3] = [0x55, 0x1d, 0x11];

/// The names; `None` if it is no certificate.
pub(super) fn names(certificate: &[u8]) -> Option<Vec<String>> {
    let (body, _) = expect(certificate, SEQUENCE)?;
    let (mut rest, _) = expect(body, SEQUENCE)?;
    if let Some((_, after)) = expect(rest, VERSION) {
        rest = after;
    }
    rest = expect(rest, INTEGER)?.1;
    // Signature algorithm, issuer, validity, subject, public key.
    for _ in 0..5 {
        rest = expect(rest, SEQUENCE)?.1;
    }
    // What else there may be before the extensions.
    while let Some((tag, content, after)) = element(rest) {
        if tag == EXTENSIONS {
            return extensions(content);
        }
        rest = after;
    }
    Some(Vec::new())
}

fn extensions(content: &[u8]) -> Option<Vec<String>> {
    let (mut rest, _) = expect(content, SEQUENCE)?;
    while let Some((extension, after)) = expect(rest, SEQUENCE) {
        let (id, mut value) = expect(extension, OBJECT_IDENTIFIER)?;
        if let Some((_, after)) = expect(value, BOOLEAN) {
            value = after;
        }
        if id == SUBJECT_ALT_NAME {
            let (value, _) = expect(value, OCTET_STRING)?;
            return general_names(expect(value, SEQUENCE)?.0);
        }
        rest = after;
    }
    Some(Vec::new())
}

fn general_names(mut rest: &[u8]) -> Option<Vec<String>> {
    let mut names = Vec::new();
    while let Some((tag, content, after)) = element(rest) {
        if names.len() >= NAMES_MAX {
            break;
        }
        match tag {
            // Mail address, DNS name, URI.
            0x81 | 0x82 | 0x86 => names.push(String::from_utf8(content.to_vec()).ok()?),
            0x87 => match (<[u8; 4]>::try_from(content), <[u8; 16]>::try_from(content)) {
                (Ok(four), _) => names.push(Ipv4Addr::from(four).to_string()),
                (_, Ok(sixteen)) => names.push(Ipv6Addr::from(sixteen).to_string()),
                _ => return None,
            },
            _ => {}
        }
        rest = after;
    }
    Some(names)
}

/// The content of the first element if it has this tag, and what follows it.
fn expect(bytes: &[u8], wanted: u8) -> Option<(&[u8], &[u8])> {
    element(bytes).filter(|(tag, _, _)| *tag == wanted).map(|(_, content, after)| (content, after))
}

/// Tag and content of the first element, and what follows it.
fn element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = bytes.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x84 => {
            let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (digits.iter().fold(0usize, |length, digit| length << 8 | usize::from(*digit)), rest)
        }
        _ => return None,
    };
    let (content, after) = rest.split_at_checked(length)?;
    Some((tag, content, after))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject as _;

    use super::*;

    fn client() -> Vec<u8> {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../http/testdata/client.pem");
        CertificateDer::from_pem_file(path).unwrap().to_vec()
    }

    #[test]
    fn the_names_of_a_certificate_are_found() {
        assert_eq!(names(&client()), Some(vec!["client.test".to_owned()]));
        assert_eq!(names(b""), None);
        assert_eq!(names(&[SEQUENCE, 0x84, 0xff, 0xff, 0xff, 0xff]), None);
    }

    #[test]
    fn all_kinds_of_names_are_told() {
        let list = [
            &[0x82, 3][..],
            b"a.b",
            &[0x81, 3],
            b"c@d",
            &[0x86, 3],
            b"e:f",
            &[0x87, 4],
            &[10, 0, 0, 1],
            &[0x88, 1, 0],
            &[0x87, 16],
            &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
        ]
        .concat();
        assert_eq!(general_names(&list).unwrap(), ["a.b", "c@d", "e:f", "10.0.0.1", "::1"]);
    }

    proptest! {
        #[test]
        fn no_bytes_are_too_odd(at in 0usize..2000, byte in any::<u8>(), cut in 0usize..2000) {
            let mut bytes = client();
            let at = at % bytes.len();
            bytes[at] = byte;
            bytes.truncate(cut);
            let _ = names(&bytes);
        }
    }
}
