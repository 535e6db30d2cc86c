//! Remote-write requests, written by hand: protobuf messages of four fields, and snappy blocks that only copy.

/// Appends a base-128 number.
fn varint(out: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

/// Appends a field of wire type 2: its length, then its bytes.
fn bytes(out: &mut Vec<u8>, field: u64, content: &[u8]) {
    varint(out, field << 3 | 2);
    varint(out, content.len() as u64);
    out.extend(content);
}

/// A `prometheus.WriteRequest` of one series, uncompressed. Labels must be sorted by name.
fn write_request(labels: &[(&str, &str)], samples: &[(i64, f64)]) -> Vec<u8> {
    let mut series = Vec::new();
    for (name, value) in labels {
        let mut label = Vec::new();
        bytes(&mut label, 1, name.as_bytes());
        bytes(&mut label, 2, value.as_bytes());
        bytes(&mut series, 1, &label);
    }
    for (time_ms, value) in samples {
        let mut sample = vec![1 << 3 | 1];
        sample.extend(value.to_le_bytes());
        sample.push(2 << 3);
        varint(&mut sample, *time_ms as u64);
        bytes(&mut series, 2, &sample);
    }
    let mut request = Vec::new();
    bytes(&mut request, 1, &series);
    request
}

/// A snappy block: the length, then literals of at most 60 bytes, whose tag is a single byte.
fn snappy(raw: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    varint(&mut out, raw.len() as u64);
    for literal in raw.chunks(60) {
        out.push((literal.len() as u8 - 1) << 2);
        out.extend(literal);
    }
    out
}

/// Headers of a request.
pub const HEADERS: &[(&str, &str)] = &[
    ("content-type", "application/x-protobuf"),
    ("content-encoding", "snappy"),
    ("x-prometheus-remote-write-version", "0.1.0"),
];

/// Body of a request with samples `(ms, value)` of one series. Labels must be sorted by name.
pub fn body(labels: &[(&str, &str)], samples: &[(i64, f64)]) -> Vec<u8> {
    snappy(&write_request(labels, samples))
}
