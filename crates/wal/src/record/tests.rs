//! Bytes of the format, round trips, and what is refused.

use proptest::prelude::*;

use std::sync::Arc;

use fk_model::histogram::CUSTOM_BUCKETS_SCHEMA;
use fk_model::{CounterReset, Histogram, Labels, Metadata, MetricType, Span, stale_nan};
use fk_storage::{BatchHistogram, BatchSample, Exemplar, HistogramValue, SeriesRef};

use super::*;

fn sample(series: u64, t: i64, v: f64) -> BatchSample {
    BatchSample { series: SeriesRef(series), t, v }
}

fn bits(samples: impl IntoIterator<Item = BatchSample>) -> Vec<(u64, i64, u64)> {
    samples.into_iter().map(|s| (s.series.0, s.t, s.v.to_bits())).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[test]
fn the_bytes_are_those_of_the_format() {
    let labels = Labels::from_pairs([("__name__", "up"), ("job", "a")]);
    let mut out = Vec::new();
    encode_series([(SeriesRef(258), &labels)], &mut out);
    assert_eq!(hex(&out), "01_0000000000000102_02_08_5f5f6e616d655f5f_02_7570_03_6a6f62_01_61".replace('_', ""));

    out.clear();
    encode_samples(&[sample(10, 1000, 1.0), sample(8, 1064, -2.0)], &mut out);
    let expected = "02_000000000000000a_00000000000003e8_00_00_3ff0000000000000_03_8001_c000000000000000";
    assert_eq!(hex(&out), expected.replace('_', ""));

    out.clear();
    encode_tombstones(&[Tombstone { series: SeriesRef(1), mint: -1, maxt: 64 }], &mut out);
    assert_eq!(hex(&out), "03_0000000000000001_01_8001".replace('_', ""));

    out.clear();
    let trace = Exemplar { t: 2, v: 0.0, labels: Labels::from_pairs([("t", "x")]) };
    encode_exemplars([(SeriesRef(1), &trace)], &mut out);
    let expected = "04_0000000000000001_0000000000000002_00_00_0000000000000000_01_01_74_01_78";
    assert_eq!(hex(&out), expected.replace('_', ""));

    out.clear();
    encode_metadata([MetadataEntry { series: SeriesRef(200), metric_type: 1, unit: "", help: "h" }], &mut out);
    assert_eq!(hex(&out), "06_c801_01_02_04_554e4954_00_04_48454c50_01_68".replace('_', ""));
}

/// Three samples of a series each: exponential, custom, a staleness marker.
fn histograms() -> Vec<BatchHistogram> {
    let spans = |list: &[(i32, u32)]| list.iter().map(|&(offset, length)| Span { offset, length }).collect::<Vec<_>>();
    let exponential = Histogram {
        counter_reset: CounterReset::NotReset,
        schema: -1,
        zero_threshold: 0.001,
        zero_count: 2,
        count: 300,
        sum: 18.5,
        positive_spans: spans(&[(-3, 2), (200, 1)]),
        negative_spans: spans(&[(0, 1)]),
        positive_buckets: vec![100, -50, 98],
        negative_buckets: vec![0],
        ..Histogram::default()
    };
    let custom = Histogram {
        schema: CUSTOM_BUCKETS_SCHEMA,
        count: 3,
        sum: 1.0,
        positive_spans: spans(&[(1, 2)]),
        positive_buckets: vec![1, 1],
        custom_values: Arc::from([0.5, 1.5]),
        ..Histogram::default()
    };
    let stale = Histogram { sum: stale_nan(), ..Histogram::default() };
    let of = |series: u64, t, start, h: &Histogram| {
        let int = HistogramValue::Int(Arc::new(h.clone()));
        let float = HistogramValue::Float(Arc::new(h.to_float()));
        [(10, int), (20, float)].map(|(add, h)| BatchHistogram { series: SeriesRef(series + add), t, start, h })
    };
    [of(1, 1000, 900, &exponential), of(0, 1001, 900, &custom), of(3, 1000, 0, &stale), of(4, 990, 50, &exponential)]
        .into_iter()
        .flatten()
        .collect()
}

/// The bytes were written by Prometheus 3.14's own package.
#[test]
fn histograms_have_the_bytes_of_prometheus() {
    let histograms = histograms();
    let expected: [&str; 6] = [
        "07000000000000000b00000000000003e8000002013f50624dd2f1a9fc02ac02403280000000000002050290030101000103c80163c401010004000000000000000000000000007ff000000000000200000000061302013f50624dd2f1a9fc02ac02403280000000000002050290030101000103c80163c4010100",
        "09000000000000000a00000000000003e900000069000000000000000000033ff00000000000000102020002020200023fe00000000000003ff8000000000000",
        "08000000000000001500000000000003e8000002013f50624dd2f1a9fc40000000000000004072c00000000000403280000000000002050290030101000103405900000000000040490000000000004062800000000000010000000000000000040000000000000000000000000000000000000000000000000000007ff000000000000200000000061302013f50624dd2f1a9fc40000000000000004072c00000000000403280000000000002050290030101000103405900000000000040490000000000004062800000000000010000000000000000",
        "0a000000000000001400000000000003e9000000690000000000000000000000000000000040080000000000003ff000000000000001020200023ff0000000000000400000000000000000023fe00000000000003ff8000000000000",
        "0c16d00f880e02013f50624dd2f1a9fc02ac02403280000000000002050290030101000103c80163c40101000102010069000000000000000000033ff00000000000000102020002020200023fe00000000000003ff80000000000000600000000000000000000000000007ff000000000000200000000021302a30d02013f50624dd2f1a9fc02ac02403280000000000002050290030101000103c80163c4010100",
        "0d2ad00f880e02013f50624dd2f1a9fc40000000000000004072c0000000000040328000000000000205029003010100010340590000000000004049000000000000406280000000000001000000000000000001020100690000000000000000000000000000000040080000000000003ff000000000000001020200023ff0000000000000400000000000000000023fe00000000000003ff800000000000006000000000000000000000000000000000000000000000000000000007ff000000000000200000000021302a30d02013f50624dd2f1a9fc40000000000000004072c00000000000403280000000000002050290030101000103405900000000000040490000000000004062800000000000010000000000000000",
    ];
    for (kind, expected) in HISTOGRAM_KINDS.into_iter().zip(expected) {
        let mut out = Vec::new();
        assert!(encode_histograms(kind, &histograms, &mut out));
        assert_eq!(hex(&out), expected, "{kind}");
        let Ok(Record::Histograms(record)) = Record::decode(&out) else { panic!("histograms") };
        let with_starts = kind > 10;
        let mut of_this_kind = histograms.clone();
        of_this_kind.retain(|sample| histogram_kind(&sample.h, with_starts) == kind);
        of_this_kind.iter_mut().for_each(|sample| sample.start *= i64::from(with_starts));
        let back: Vec<_> = record.iter().map(|entry| entry.to_batch().expect("sound")).collect();
        assert_eq!(format!("{back:?}"), format!("{of_this_kind:?}"));
        for end in 1..out.len() {
            match Record::decode(&out[..end]) {
                Ok(Record::Histograms(cut)) => assert!(cut.iter().count() < back.len()),
                Ok(other) => panic!("{other:?}"),
                Err(error) => assert_eq!(error, RecordError::Malformed { kind }),
            }
        }
    }
    let mut out = Vec::new();
    assert!(!encode_histograms(kind::HISTOGRAM_SAMPLES, &histograms[2..4], &mut out));
    assert!(out.is_empty());
}

#[test]
fn start_timestamps_have_the_bytes_of_prometheus() {
    let samples = [(7, 1000, 1.0), (9, 1100, 2.0), (8, 900, 3.0), (8, 1000, 4.0), (8, 1001, 5.0)];
    let samples = samples.map(|(series, t, v)| sample(series, t, v));
    let starts = [500, 500, 0, 400, 400];
    let mut out = Vec::new();
    encode_samples_with_starts(&samples, &starts, &mut out);
    assert_eq!(
        hex(&out),
        "0b0ed00fe8073ff000000000000004c80101400000000000000001c701004008000000000000000002c70140100000000000000002014014000000000000"
    );
    let Ok(Record::Samples(record)) = Record::decode(&out) else { panic!("samples") };
    assert!(record.has_starts());
    assert_eq!(record.iter_with_starts().collect::<Vec<_>>(), samples.into_iter().zip(starts).collect::<Vec<_>>());
    assert_eq!(bits(record.iter()), bits(samples));
    out.clear();
    encode_mmap_markers(&[MmapMarker { series: SeriesRef(3), chunk: 1 << 32 | 8 }], &mut out);
    assert_eq!(hex(&out), "0500000000000000030000000100000008");
    let Ok(Record::MmapMarkers(record)) = Record::decode(&out) else { panic!("markers") };
    assert_eq!(record.iter().collect::<Vec<_>>(), [MmapMarker { series: SeriesRef(3), chunk: 1 << 32 | 8 }]);
}

#[test]
fn histograms_that_cannot_be_used_are_told_apart() {
    let record = |change: fn(&mut Histogram)| {
        let mut h = Histogram { positive_spans: vec![Span { offset: 0, length: 2 }], ..Histogram::default() };
        (h.positive_buckets, h.count) = (vec![1, 1], 3);
        change(&mut h);
        let sample = BatchHistogram { series: SeriesRef(1), t: 2, start: 0, h: HistogramValue::Int(Arc::new(h)) };
        let mut out = Vec::new();
        encode_histograms(kind::HISTOGRAM_SAMPLES, [&sample], &mut out);
        let Ok(Record::Histograms(record)) = Record::decode(&out) else { panic!("histograms") };
        record.iter().next().expect("one").value()
    };
    let Ok(HistogramValue::Int(reduced)) = record(|h| h.schema = 9) else { panic!("brought down") };
    // Buckets 0 and 1 of schema 9 are buckets 0 and 1 of schema 8.
    assert_eq!((reduced.schema, &reduced.positive_buckets[..]), (8, &[1, 1][..]));
    assert!(record(|h| h.schema = 60).unwrap_err().to_string().contains("unknown schema"));
    assert!(record(|h| h.positive_spans[0].length = 3).unwrap_err().to_string().contains("spans need 3 buckets"));
}

#[test]
fn metadata_keeps_its_type() {
    for (number, kind) in [
        MetricType::Unknown,
        MetricType::Counter,
        MetricType::Gauge,
        MetricType::Histogram,
        MetricType::GaugeHistogram,
        MetricType::Summary,
        MetricType::Info,
        MetricType::StateSet,
    ]
    .into_iter()
    .enumerate()
    {
        let metadata = Metadata { kind, unit: "s".into(), help: "h".into() };
        let entry = MetadataEntry::new(SeriesRef(1), &metadata);
        assert_eq!((usize::from(entry.metric_type), entry.to_metadata()), (number, metadata.clone()));
    }
}

#[test]
fn empty_lists_are_records_too() {
    let mut out = Vec::new();
    encode_samples(&[], &mut out);
    assert!(matches!(Record::decode(&out), Ok(Record::Samples(s)) if s.iter().count() == 0));
    assert!(matches!(Record::decode(&[kind::SERIES]), Ok(Record::Series(s)) if s.iter().count() == 0));
    assert_eq!(Record::decode(&[]).expect_err("nothing"), RecordError::Empty);
}

#[test]
fn kinds_that_are_not_read_are_named() {
    for kind in [14, 15, 200, 255, 0] {
        let bytes = [kind, 1, 2, 3];
        let record = Record::decode(&bytes).expect("not looked into");
        assert!(matches!(record, Record::Unsupported { kind: k } if k == kind), "{kind}");
    }
    assert_eq!(kind::name(7), "histogram_samples");
    assert_eq!(kind::name(77), "unknown");
}

#[test]
fn numbers_that_cannot_be_true_are_malformed() {
    let malformed = |bytes: &[u8]| Record::decode(bytes).expect_err("malformed");
    let series = |rest: &[u8]| malformed(&[&[kind::SERIES, 0, 0, 0, 0, 0, 0, 0, 1], rest].concat());
    assert_eq!(series(&[]), RecordError::Malformed { kind: 1 });
    assert_eq!(series(&[0xff, 0xff, 0xff, 0xff, 0x0f]), RecordError::Malformed { kind: 1 });
    assert_eq!(
        series(&[1, 1, b'a', 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]),
        RecordError::Malformed { kind: 1 }
    );
    assert_eq!(series(&[1, 1, b'a', 1, 0xff]), RecordError::NotUtf8 { kind: 1 });
    assert_eq!(malformed(&[kind::SAMPLES, 1]), RecordError::Malformed { kind: 2 });
    let overlong = [[0x80; 9].as_slice(), &[2]].concat();
    assert_eq!(
        malformed(&[&[kind::SAMPLES], [0; 16].as_slice(), &overlong].concat()),
        RecordError::Malformed { kind: 2 }
    );
    assert_eq!(malformed(&[kind::METADATA, 1, 1, 65]), RecordError::Malformed { kind: 6 });
}

#[test]
fn labels_in_a_strange_order_become_a_proper_set() {
    let bytes = [&[kind::SERIES], [0; 8].as_slice(), &[3, 1, b'b', 1, b'2', 1, b'a', 1, b'1', 1, b'c', 0]].concat();
    let Ok(Record::Series(record)) = Record::decode(&bytes) else { panic!("series") };
    let (_, pairs) = record.iter().next().expect("one");
    assert_eq!(pairs.iter().collect::<Vec<_>>(), [("b", "2"), ("a", "1"), ("c", "")]);
    assert_eq!(pairs.to_labels(), Labels::from_pairs([("a", "1"), ("b", "2")]));
}

fn labels() -> impl Strategy<Value = Labels> {
    proptest::collection::vec(("[a-z_é]{1,9}", ".{0,20}"), 0..6).prop_map(Labels::from_pairs)
}

fn float() -> impl Strategy<Value = f64> {
    prop_oneof![any::<u64>().prop_map(f64::from_bits), Just(fk_model::stale_nan()), (0..9).prop_map(f64::from)]
}

proptest! {
    #[test]
    fn samples_come_back(samples in proptest::collection::vec((any::<u64>(), any::<i64>(), float()), 0..50)) {
        let samples: Vec<_> = samples.into_iter().map(|(s, t, v)| sample(s, t, v)).collect();
        let mut out = Vec::new();
        encode_samples(&samples, &mut out);
        let Ok(Record::Samples(record)) = Record::decode(&out) else { panic!("samples") };
        prop_assert_eq!(bits(record.iter()), bits(samples));
    }

    #[test]
    fn series_come_back(series in proptest::collection::vec((any::<u64>().prop_map(SeriesRef), labels()), 0..9)) {
        let mut out = Vec::new();
        encode_series(series.iter().map(|(r, l)| (*r, l)), &mut out);
        let Ok(Record::Series(record)) = Record::decode(&out) else { panic!("series") };
        let back: Vec<_> = record.iter().map(|(r, l)| (r, l.to_labels())).collect();
        prop_assert_eq!(back, series);
    }

    #[test]
    fn exemplars_come_back(list in proptest::collection::vec((any::<u64>(), any::<i64>(), float(), labels()), 0..9)) {
        let list: Vec<_> =
            list.into_iter().map(|(s, t, v, labels)| (SeriesRef(s), Exemplar { t, v, labels })).collect();
        let mut out = Vec::new();
        encode_exemplars(list.iter().map(|(series, exemplar)| (*series, exemplar)), &mut out);
        let Ok(Record::Exemplars(record)) = Record::decode(&out) else { panic!("exemplars") };
        prop_assert_eq!(record.iter().map(|e| e.labels.to_labels()).collect::<Vec<_>>(),
            list.iter().map(|(_, e)| e.labels.clone()).collect::<Vec<_>>());
        prop_assert_eq!(bits(record.iter().map(|e| e.sample)), bits(list.iter().map(|(s, e)| sample(s.0, e.t, e.v))));
    }

    #[test]
    fn samples_with_starts_come_back(
        samples in proptest::collection::vec((any::<u64>(), any::<i64>(), float(), prop_oneof![Just(0), Just(7), any::<i64>()]), 0..50),
    ) {
        let starts: Vec<_> = samples.iter().map(|(_, _, _, start)| *start).collect();
        let samples: Vec<_> = samples.into_iter().map(|(s, t, v, _)| sample(s, t, v)).collect();
        let mut out = Vec::new();
        encode_samples_with_starts(&samples, &starts, &mut out);
        let Ok(Record::Samples(record)) = Record::decode(&out) else { panic!("samples") };
        prop_assert_eq!(bits(record.iter()), bits(samples));
        prop_assert_eq!(record.iter_with_starts().map(|(_, start)| start).collect::<Vec<_>>(), starts);
    }

    #[test]
    fn tombstones_come_back(list in proptest::collection::vec(any::<(u64, i64, i64)>(), 0..9)) {
        let list: Vec<_> =
            list.into_iter().map(|(s, mint, maxt)| Tombstone { series: SeriesRef(s), mint, maxt }).collect();
        let mut out = Vec::new();
        encode_tombstones(&list, &mut out);
        let Ok(Record::Tombstones(record)) = Record::decode(&out) else { panic!("tombstones") };
        prop_assert_eq!(record.iter().collect::<Vec<_>>(), list);
    }

    #[test]
    fn metadata_comes_back(list in proptest::collection::vec((any::<u64>(), any::<u8>(), ".{0,9}", ".{0,30}"), 0..9)) {
        let entries: Vec<_> = list
            .iter()
            .map(|(s, m, unit, help)| MetadataEntry { series: SeriesRef(*s), metric_type: *m, unit, help })
            .collect();
        let mut out = Vec::new();
        encode_metadata(entries.iter().copied(), &mut out);
        let Ok(Record::Metadata(record)) = Record::decode(&out) else { panic!("metadata") };
        prop_assert_eq!(record.iter().collect::<Vec<_>>(), entries);
    }

    #[test]
    fn any_bytes_are_decoded_or_refused(mut bytes in proptest::collection::vec(any::<u8>(), 0..200), kind in 0u8..15) {
        if let Some(first) = bytes.first_mut() {
            *first = kind;
        }
        match Record::decode(&bytes) {
            Ok(Record::Series(record)) => record.iter().for_each(|(_, labels)| drop(labels.to_labels())),
            Ok(Record::Histograms(record)) => record.iter().for_each(|entry| drop(entry.value())),
            _ => {}
        }
    }

    #[test]
    fn a_cut_record_is_refused_or_shorter(samples in proptest::collection::vec((0u64..99, 0i64..99), 1..9), cut in any::<prop::sample::Index>()) {
        let samples: Vec<_> = samples.into_iter().map(|(s, t)| sample(s, t, 1.0)).collect();
        let mut out = Vec::new();
        encode_samples(&samples, &mut out);
        out.truncate(cut.index(out.len()));
        match Record::decode(&out) {
            Ok(Record::Samples(record)) => {
                let n = record.iter().count();
                prop_assert!(n < samples.len());
                prop_assert_eq!(bits(record.iter()), bits(samples[..n].to_vec()));
            }
            Ok(other) => prop_assert!(false, "{:?}", other),
            Err(_) => {}
        }
    }
}
