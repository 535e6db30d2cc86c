use std::sync::atomic::{AtomicUsize, Ordering};

use fk_storage::SeriesRef;
use fk_testkit::MemoryStorage;
use proptest::prelude::*;

use super::*;

/// One field of wire type 2.
fn bytes(number: u8, contents: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2];
    varint(contents.len() as u64, &mut out);
    out.extend_from_slice(contents);
    out
}

fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn label(name: &[u8], value: &[u8]) -> Vec<u8> {
    bytes(1, &[bytes(1, name), bytes(2, value)].concat())
}

fn sample(t: i64, v: f64) -> Vec<u8> {
    let mut out = vec![1 << 3 | 1];
    out.extend_from_slice(&v.to_le_bytes());
    out.push(2 << 3);
    varint(t as u64, &mut out);
    bytes(2, &out)
}

fn series(labels: &[(&str, &str)], samples: &[(i64, f64)]) -> Vec<u8> {
    let mut out: Vec<u8> = labels.iter().flat_map(|(n, v)| label(n.as_bytes(), v.as_bytes())).collect();
    out.extend(samples.iter().flat_map(|(t, v)| sample(*t, *v)));
    bytes(1, &out)
}

fn block(message: &[u8]) -> Vec<u8> {
    snap::raw::Encoder::new().compress_vec(message).unwrap()
}

const NOW_MS: i64 = 1_000_000;

fn send(storage: &MemoryStorage, message: &[u8]) -> Result<WriteReport, WriteError> {
    receive(&block(message), MessageKind::V1, NOW_MS, storage, &mut Scratch::new())
}

fn rejected(result: Result<WriteReport, WriteError>) -> (String, WriteReport) {
    match result {
        Err(error @ WriteError::Rejected { .. }) => {
            assert_eq!(error.status(), 400);
            let text = error.to_string();
            let WriteError::Rejected { report, .. } = error else { unreachable!() };
            (text, report)
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn samples_arrive_in_the_storage() {
    let storage = MemoryStorage::new();
    let message = [
        series(&[("__name__", "a"), ("x", "1")], &[(1, 1.5), (2, f64::INFINITY)]),
        // Unsorted labels, one of them empty; negative time.
        series(&[("z", ""), ("y", "ü"), ("__name__", "b")], &[(-5, -0.0)]),
        // Metadata and an unknown field.
        bytes(3, b"whatever"),
        vec![9 << 3, 7],
    ]
    .concat();
    let report = send(&storage, &message).unwrap();
    assert_eq!(report, WriteReport { samples: 3, series: 2, ..WriteReport::default() });
    let dump = storage.dump();
    assert_eq!(dump[&Labels::from_pairs([("__name__", "a"), ("x", "1")])], [(1, 1.5), (2, f64::INFINITY)]);
    assert_eq!(dump[&Labels::from_pairs([("__name__", "b"), ("y", "ü")])], [(-5, 0.0)]);
}

#[test]
fn an_empty_request_is_fine() {
    assert_eq!(send(&MemoryStorage::new(), &[]).unwrap(), WriteReport::default());
    assert_eq!(send(&MemoryStorage::new(), &series(&[("__name__", "a")], &[])).unwrap().samples, 0);
}

#[test]
fn refused_samples_do_not_keep_the_others_out() {
    let storage = MemoryStorage::new();
    send(&storage, &series(&[("__name__", "a")], &[(10, 1.0)])).unwrap();
    let message = [
        series(&[("__name__", "a")], &[(5, 1.0), (10, 2.0), (20, 3.0), (NOW_MS + FUTURE_MS_MAX + 1, 4.0)]),
        series(&[("__name__", "b")], &[(NOW_MS + FUTURE_MS_MAX, 1.0)]),
    ]
    .concat();
    let (text, report) = rejected(send(&storage, &message));
    assert_eq!(text, "out of bounds: timestamp is too far in the future");
    assert_eq!((report.samples, report.rejected), (2, 3));
    assert_eq!(storage.dump()[&Labels::from_pairs([("__name__", "a")])], [(10, 1.0), (20, 3.0)]);
    let (text, _) = rejected(send(&storage, &series(&[("__name__", "a")], &[(5, 1.0)])));
    assert_eq!(text, "out of order sample");
    let (text, _) = rejected(send(&storage, &series(&[("__name__", "a")], &[(20, 9.0)])));
    assert_eq!(text, "duplicate sample for timestamp");
}

#[test]
fn series_with_invalid_labels_are_left_out() {
    let check = |labels: &[u8], expected: &str| {
        let storage = MemoryStorage::new();
        let bad = bytes(1, &[labels.to_vec(), sample(1, 1.0), sample(2, 1.0)].concat());
        let message = [bad, series(&[("__name__", "good")], &[(1, 1.0)])].concat();
        let (text, report) = rejected(send(&storage, &message));
        assert_eq!(text, expected);
        assert_eq!((report.samples, report.invalid_labels), (1, 2));
    };
    let name = label(b"__name__", b"a");
    check(&label(b"x", b"1"), "invalid labels {x=\"1\"}: no metric name");
    check(&[], "invalid labels {}: no metric name");
    check(&label(b"__name__", b""), "invalid labels {}: no metric name");
    check(
        &[name.clone(), label(b"x", b"1"), label(b"x", b"2")].concat(),
        "invalid labels: label name \"x\" is not unique",
    );
    check(&[name.clone(), name.clone()].concat(), "invalid labels: label name \"__name__\" is not unique");
    check(&[label(b"", b"1"), name.clone()].concat(), "invalid labels: empty label name");
    check(&[name.clone(), label(b"x", b"\xff")].concat(), "invalid labels: not valid UTF-8");
    check(&[name.clone(), label(b"\xc3", b"")].concat(), "invalid labels: not valid UTF-8");
    let long = label(b"x", &vec![b'a'; STRING_BYTES_MAX + 1]);
    check(&[name, long].concat(), "invalid labels: a name or value has more than 1048576 bytes");
}

#[test]
fn histograms_are_refused_by_name_and_exemplars_left_out() {
    let storage = MemoryStorage::new();
    let message = bytes(1, &[label(b"__name__", b"a"), sample(1, 1.0), bytes(3, b"\x08\x01"), bytes(4, b"")].concat());
    let (text, report) = rejected(send(&storage, &message));
    assert_eq!(text, "native histograms in remote write are not supported yet");
    assert_eq!((report.samples, report.histograms, report.exemplars), (1, 1, 1));
}

#[test]
fn nothing_of_a_malformed_request_is_stored() {
    let good = series(&[("__name__", "a")], &[(1, 1.0)]);
    for (tail, expected) in [
        (&[0x0a, 5, 1][..], "proto: unexpected end of message"),
        (&[0x0a][..], "proto: unexpected end of message"),
        (&[0x0a, 2, 0x0a, 9][..], "proto: unexpected end of message"),
        (&[0x08, 1][..], "proto: wrong wire type 0 for field 1"),
        (&[0x0b][..], "proto: wire type 3 is not supported"),
        (&[0x02, 0][..], "proto: illegal field number 0"),
        (&[0xff; 11][..], "proto: varint of more than 64 bits"),
        (&[0x0a, 4, 0x12, 2, 0x08, 1][..], "proto: wrong wire type 0 for field 1"),
    ] {
        let storage = MemoryStorage::new();
        let error = send(&storage, &[good.as_slice(), tail].concat()).unwrap_err();
        assert_eq!((error.status(), error.to_string().as_str()), (400, expected));
        assert!(storage.dump().is_empty());
    }
}

#[test]
fn what_is_no_snappy_block_is_refused_before_memory_is_taken() {
    let check = |body: &[u8], status: u16, text: &str| {
        let error = receive(body, MessageKind::V1, 0, &MemoryStorage::new(), &mut Scratch::new()).unwrap_err();
        assert_eq!((error.status(), error.to_string().as_str()), (status, text));
    };
    check(b"", 400, "s2: corrupt input");
    check(b"\x05abc", 400, "s2: corrupt input");
    // 32 MiB declared, four bytes sent.
    check(&[0x80, 0x80, 0x80, 0x10], 400, "s2: corrupt input");
    let too_large = "snappy: decoded block is too large (limit 33554432 bytes)";
    check(&[0x81, 0x80, 0x80, 0x10, 0], 413, too_large);
    check(&[0xff, 0xff, 0xff, 0xff, 0x0f, 0], 413, too_large);
    check(&block(&vec![0; DECODED_BYTES_MAX + 1]), 413, too_large);
}

#[test]
fn the_number_of_parts_is_bounded() {
    let check = |message: Vec<u8>, text: &str| {
        let error = send(&MemoryStorage::new(), &message).unwrap_err();
        assert_eq!((error.status(), error.to_string().as_str()), (413, text));
    };
    check([0x0a, 0].repeat(SERIES_MAX + 1), "request has more than 1048576 series");
    check(bytes(1, &[0x0a, 0].repeat(LABELS_MAX + 1)), "request has more than 2097152 labels");
    check(bytes(1, &[0x12, 0].repeat(SAMPLES_MAX + 1)), "request has more than 1048576 samples");
}

#[test]
fn headers_say_which_message_it_is() {
    let ok = |content_type, encoding| assert!(matches!(message_kind(content_type, encoding), Ok(MessageKind::V1)));
    ok(None, None);
    ok(Some("application/x-protobuf"), Some("snappy"));
    ok(Some("application/x-protobuf;proto=prometheus.WriteRequest"), Some("snappy"));
    ok(Some("application/x-protobuf; proto=prometheus.WriteRequest"), None);
    let refused = |content_type, encoding, text: &str| {
        let error = message_kind(content_type, encoding).unwrap_err();
        assert_eq!(error.status(), 415);
        assert!(error.to_string().contains(text), "{error}");
    };
    refused(Some("application/json"), None, "expected application/x-protobuf as the first (media) part");
    refused(
        Some("application/x-protobuf;proto=io.prometheus.write.v2.Request"),
        None,
        "io.prometheus.write.v2.Request protobuf message is not accepted by this server; only accepts prometheus.WriteRequest",
    );
    refused(Some("application/x-protobuf;proto=x"), None, "unknown type for remote write protobuf message x");
    refused(Some("application/x-protobuf;proto"), None, "expected parameters to be key-values");
    refused(
        None,
        Some("zstd"),
        "zstd encoding (compression) is not accepted by this server; only snappy is acceptable",
    );
}

/// Forgets every reference once.
struct Forgetful {
    inner: MemoryStorage,
    appends: AtomicUsize,
}

impl Appender for Forgetful {
    fn resolve(&self, labels: &Labels) -> Result<SeriesRef, StorageError> {
        self.inner.resolve(labels)
    }

    fn append(&self, batch: &Batch, report: &mut AppendReport) -> Result<(), StorageError> {
        if self.appends.fetch_add(1, Ordering::Relaxed) > 0 {
            return self.inner.append(batch, report);
        }
        report.accepted = 0;
        report.rejected = (0..batch.samples.len()).map(|at| (at, Rejection::UnknownSeries)).collect();
        Ok(())
    }
}

#[test]
fn forgotten_series_are_made_again() {
    let storage = Forgetful { inner: MemoryStorage::new(), appends: AtomicUsize::new(0) };
    let message =
        [series(&[("__name__", "a")], &[(1, 1.0), (2, 2.0)]), series(&[("__name__", "b")], &[(1, 3.0)])].concat();
    let report = receive(&block(&message), MessageKind::V1, NOW_MS, &storage, &mut Scratch::new()).unwrap();
    assert_eq!(report.samples, 3);
    assert_eq!(storage.inner.dump()[&Labels::from_pairs([("__name__", "b")])], [(1, 3.0)]);
}

/// Counts how often a series is looked up.
struct Counting {
    inner: MemoryStorage,
    resolved: AtomicUsize,
}

impl Appender for Counting {
    fn resolve(&self, labels: &Labels) -> Result<SeriesRef, StorageError> {
        self.resolved.fetch_add(1, Ordering::Relaxed);
        self.inner.resolve(labels)
    }

    fn append(&self, batch: &Batch, report: &mut AppendReport) -> Result<(), StorageError> {
        self.inner.append(batch, report)
    }
}

#[test]
fn series_are_looked_up_once() {
    let storage = Counting { inner: MemoryStorage::new(), resolved: AtomicUsize::new(0) };
    let mut scratch = Scratch::new();
    let mut send = |message: &[u8], resolved: usize| {
        let report = receive(&block(message), MessageKind::V1, NOW_MS, &storage, &mut scratch).unwrap();
        assert_eq!((report.samples, storage.resolved.swap(0, Ordering::Relaxed)), (1, resolved));
    };
    let name = label(b"__name__", b"a");
    let x = |value: &[u8]| label(b"x", value);
    let of = |parts: &[Vec<u8>]| bytes(1, &parts.concat());
    send(&of(&[name.clone(), x(b"1"), sample(1, 1.0)]), 1);
    send(&of(&[name.clone(), x(b"1"), sample(2, 2.0)]), 0);
    send(&of(&[name.clone(), x(b"2"), sample(1, 1.0)]), 1);
    // The labels in front are known, but they are not all: never taken for the series of those in front.
    send(&of(&[name.clone(), sample(3, 3.0), x(b"1")]), 1);
    send(&of(&[name.clone(), x(b"1"), sample(4, 4.0), label(b"y", b"1")]), 1);
    send(&of(&[name.clone(), x(b"1"), sample(5, 5.0)]), 0);
    let dump = storage.inner.dump();
    assert_eq!(dump[&Labels::from_pairs([("__name__", "a"), ("x", "1")])], [(1, 1.0), (2, 2.0), (3, 3.0), (5, 5.0)]);
    assert_eq!(dump[&Labels::from_pairs([("__name__", "a"), ("x", "1"), ("y", "1")])], [(4, 4.0)]);
}

#[test]
fn a_series_that_was_known_is_made_again() {
    let first = MemoryStorage::new();
    let mut scratch = Scratch::new();
    let message =
        |t| [series(&[("__name__", "b")], &[(t, 3.0)]), series(&[("z", "1"), ("__name__", "a")], &[(t, 1.0)])];
    receive(&block(&message(1).concat()), MessageKind::V1, NOW_MS, &first, &mut scratch).unwrap();
    // To this storage the references are unknown at first, and then others.
    let storage = Forgetful { inner: MemoryStorage::new(), appends: AtomicUsize::new(0) };
    storage.resolve(&Labels::from_pairs([("__name__", "other")])).unwrap();
    for t in [2, 3] {
        let report = receive(&block(&message(t).concat()), MessageKind::V1, NOW_MS, &storage, &mut scratch).unwrap();
        assert_eq!(report.samples, 2);
    }
    let dump = storage.inner.dump();
    assert_eq!(dump[&Labels::from_pairs([("__name__", "b")])], [(2, 3.0), (3, 3.0)]);
    assert_eq!(dump[&Labels::from_pairs([("__name__", "a"), ("z", "1")])], [(2, 1.0), (3, 1.0)]);
}

/// Takes nothing.
struct Full;

impl Appender for Full {
    fn resolve(&self, _: &Labels) -> Result<SeriesRef, StorageError> {
        Ok(SeriesRef(1))
    }

    fn append(&self, _: &Batch, _: &mut AppendReport) -> Result<(), StorageError> {
        Err(StorageError::ReadOnly("disk full".to_owned()))
    }
}

#[test]
fn a_storage_that_takes_nothing_makes_the_sender_try_again() {
    let message = series(&[("__name__", "a")], &[(1, 1.0)]);
    let error = receive(&block(&message), MessageKind::V1, NOW_MS, &Full, &mut Scratch::new()).unwrap_err();
    assert_eq!((error.status(), error.to_string().as_str()), (503, "storage is read-only: disk full"));
}

fn any_message() -> impl Strategy<Value = Vec<u8>> {
    let labels = prop::collection::vec(("[a-c_é]{0,3}", "[xyü]{0,3}"), 0..4);
    let samples = prop::collection::vec((any::<i64>(), any::<f64>()), 0..4);
    prop::collection::vec((labels, samples), 0..4).prop_map(|all| {
        all.iter()
            .flat_map(|(labels, samples)| {
                let mut pairs: Vec<(&str, &str)> = vec![("__name__", "m")];
                pairs.extend(labels.iter().map(|(n, v)| (n.as_str(), v.as_str())));
                series(&pairs, samples)
            })
            .collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn damaged_messages_are_answered(message in any_message(), at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<bool>()) {
        let mut message = message;
        if !message.is_empty() {
            let at = at.index(message.len());
            if cut { message.truncate(at) } else { message[at] = byte }
        }
        if let Err(error) = send(&MemoryStorage::new(), &message) {
            prop_assert!((400..500).contains(&error.status()));
        }
    }

    #[test]
    fn damaged_blocks_are_answered(message in any_message(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut body = block(&message);
        let at = at.index(body.len());
        body[at] = byte;
        if let Err(error) = receive(&body, MessageKind::V1, NOW_MS, &MemoryStorage::new(), &mut Scratch::new()) {
            prop_assert!((400..500).contains(&error.status()));
        }
    }

    #[test]
    fn any_bytes_are_answered(body in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = receive(&body, MessageKind::V1, NOW_MS, &MemoryStorage::new(), &mut Scratch::new());
        let _ = send(&MemoryStorage::new(), &body);
    }

    /// What is known of earlier requests changes nothing but the time it takes.
    #[test]
    fn requests_mean_the_same_again(messages in prop::collection::vec(any_message(), 1..4)) {
        let (fresh, known) = (MemoryStorage::new(), MemoryStorage::new());
        let mut scratch = Scratch::new();
        for message in messages.iter().chain(&messages) {
            let expected = send(&fresh, message).map_err(|error| error.to_string());
            let found = receive(&block(message), MessageKind::V1, NOW_MS, &known, &mut scratch);
            prop_assert_eq!(found.map_err(|error| error.to_string()), expected);
        }
        prop_assert_eq!(format!("{:?}", known.dump()), format!("{:?}", fresh.dump()));
    }

    #[test]
    fn every_sample_is_stored_or_counted(values in prop::collection::vec((0i64..50, 0u8..3), 0..40)) {
        let storage = MemoryStorage::new();
        let message: Vec<u8> =
            values.iter().flat_map(|(t, s)| series(&[("__name__", ["a", "b", "c"][*s as usize])], &[(*t, *t as f64)])).collect();
        let report = match send(&storage, &message) {
            Ok(report) => report,
            Err(WriteError::Rejected { report, .. }) => report,
            Err(other) => return Err(TestCaseError::fail(other.to_string())),
        };
        prop_assert_eq!(report.samples + report.rejected, values.len());
    }
}

#[test]
fn unusual_encodings_are_read_too() {
    let storage = MemoryStorage::new();
    let long = "v".repeat(300);
    // The value in front of the name, fields twice, the time in front of the value, time left out, unknown fields.
    let swapped = bytes(1, &[bytes(2, b"1"), bytes(1, b"x"), bytes(2, b"2"), vec![7 << 3, 1]].concat());
    let mut time_first = vec![(2 << 3), 5, (1 << 3 | 1)];
    time_first.extend_from_slice(&2.5f64.to_le_bytes());
    let mut extended = vec![(1 << 3 | 1)];
    extended.extend_from_slice(&3.5f64.to_le_bytes());
    extended.extend([(2 << 3), 6, 3 << 3, 1]);
    let message = bytes(
        1,
        &[bytes(2, &[]), bytes(2, &time_first), bytes(2, &extended), swapped, label(b"__name__", long.as_bytes())]
            .concat(),
    );
    assert_eq!(send(&storage, &message).unwrap().samples, 3);
    let labels = Labels::from_pairs([("__name__", long.as_str()), ("x", "2")]);
    assert_eq!(storage.dump()[&labels], [(0, 0.0), (5, 2.5), (6, 3.5)]);
}
