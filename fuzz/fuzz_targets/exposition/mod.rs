//! What holds for a body in any format.

use fk_exposition::{EntryKind, ExposedExemplar, MediaType, ReadOptions, key_labels, reader};

/// Reads a body to its end or to its first mistake. The first byte chooses the options.
pub fn read(data: &[u8], media_type: MediaType) {
    let Some((flags, body)) = data.split_first() else { return };
    let on = |bit: u8| flags & 1 << bit != 0;
    let options = ReadOptions {
        type_and_unit_labels: on(0),
        ignore_native_histograms: on(1),
        convert_classic_histograms: on(2),
        keep_classic_histograms: on(3),
        skip_created: on(4),
    };
    let mut reader = reader(body, media_type, options);
    let mut exemplar = ExposedExemplar::default();
    loop {
        match reader.next() {
            Ok(Some(EntryKind::Sample | EntryKind::Histogram)) => {
                let (mut labels, mut again) = (Vec::new(), Vec::new());
                reader.for_each_label(&mut |name, value| labels.push((name.to_owned(), value.to_owned())));
                // What tells series apart is enough to make the labels again.
                let found = &mut |name: &str, value: &str| again.push((name.to_owned(), value.to_owned()));
                key_labels(reader.series(), reader.metric_type(), options, found);
                assert_eq!(labels, again);
                let _ = (reader.value(), reader.timestamp(), reader.take_histogram());
                while reader.next_exemplar(&mut exemplar) {}
                let _ = reader.start_ms();
            }
            Ok(Some(_)) => {
                let _ = (reader.family().len(), reader.text().len());
            }
            Ok(None) => break,
            Err(error) => {
                assert!(error.offset <= body.len());
                break;
            }
        }
    }
}
