//! A head and real blocks: what is asked where, and what damage in a block costs.

use std::path::Path;

use fk_block::{BlockSpec, BlockWriter, Compaction, SeriesChunks, SeriesStream, Ulid};
use fk_chunk::{Encoding, xor::XorChunk};
use fk_storage::{AppendReport, Batch};
use fk_vfs::Vfs;
use fk_vfs::sim::SimVfs;

use super::*;
use crate::head::HeadOptions;
use crate::view::Views;

/// Series of a block: each with one chunk.
struct Stream(Vec<(Labels, Vec<(i64, f64)>)>);

impl SeriesStream for Stream {
    fn next(&mut self, out: &mut SeriesChunks) -> Result<bool, StorageError> {
        out.clear();
        if self.0.is_empty() {
            return Ok(false);
        }
        let (labels, samples) = self.0.remove(0);
        let mut chunk = XorChunk::new();
        samples.iter().for_each(|(t, v)| chunk.push(*t, *v));
        out.labels = labels;
        out.push((samples[0].0, samples[samples.len() - 1].0), Encoding::Xor, samples.len() as u32, chunk.bytes());
        Ok(true)
    }

    fn symbols(&self, each: &mut dyn FnMut(&str) -> Result<(), StorageError>) -> Result<(), StorageError> {
        let strings = self.0.iter().flat_map(|(labels, _)| labels.iter().flat_map(|(n, v)| [n, v]));
        strings.collect::<std::collections::BTreeSet<_>>().into_iter().try_for_each(each)
    }
}

fn block(vfs: &SimVfs, n: u128, (min_time, max_time): (i64, i64), all: &[(&str, &[(i64, f64)])]) -> Block {
    let spec = BlockSpec { ulid: Ulid::new(n as u64, n), min_time, max_time, compaction: Compaction::default() };
    let series = all.iter().map(|(name, samples)| (series(name), samples.to_vec())).collect();
    let writer = BlockWriter::new(vfs, Path::new("/"));
    writer.write(&spec, &mut Stream(series), &mut |_| Ok(())).expect("written").expect("has samples");
    reopen(vfs, n)
}

fn reopen(vfs: &SimVfs, n: u128) -> Block {
    let dir = Path::new("/").join(Ulid::new(n as u64, n).to_string());
    Block::open(Arc::new(vfs.clone()) as Arc<dyn Vfs>, &dir).expect("opens")
}

fn head(all: &[(&str, &[(i64, f64)])]) -> Arc<Head> {
    let head = Arc::new(Head::new(HeadOptions { out_of_order_window_ms: 100, ..HeadOptions::default() }));
    for (name, samples) in all {
        let (mut batch, mut report) = (Batch::default(), AppendReport::default());
        let reference = head.resolve(&series(name)).expect("a series");
        samples.iter().for_each(|(t, v)| batch.push(reference, *t, *v));
        head.append(&batch, &mut report, &|_| Ok(())).expect("appended");
        assert_eq!(report.accepted, samples.len());
    }
    head
}

fn read(reader: &Reader<'_>, range: TimeRange) -> (Contents, Vec<String>) {
    let control = Control::new();
    let set = reader.select(&SelectParams { range, ..params() }, &[], &control).expect("answers");
    (contents(&*set, range), control.take_warnings())
}

#[test]
fn the_head_is_asked_from_the_view_on_and_for_what_came_late() {
    let vfs = SimVfs::new(1);
    // The values tell where a sample comes from. Series a has an out-of-order sample at 25.
    let head = head(&[("a", &[(10, 1.0), (20, 1.0), (30, 1.0), (40, 1.0), (25, 1.5)]), ("c", &[(10, 1.0)])]);
    let views = Views::default();
    let before = views.pin();
    let blocks = [
        block(&vfs, 1, (0, 20), &[("a", &[(10, 2.0)]), ("c", &[(10, 2.0)])]),
        block(&vfs, 2, (20, 40), &[("a", &[(20, 3.0), (30, 3.0)]), ("b", &[(22, 3.0)])]),
    ];
    views.publish(40, Arc::new(blocks));

    let old = Reader::new(&head, before);
    let expected: Contents = vec![
        (series("a"), vec![(10, 1.0), (20, 1.0), (25, 1.5), (30, 1.0), (40, 1.0)]),
        (series("c"), vec![(10, 1.0)]),
    ];
    assert_eq!(read(&old, ALL).0, expected);
    let new = Reader::new(&head, views.pin());
    let expected: Contents = vec![
        (series("a"), vec![(10, 2.0), (20, 3.0), (25, 1.5), (30, 3.0), (40, 1.0)]),
        (series("b"), vec![(22, 3.0)]),
        (series("c"), vec![(10, 2.0)]),
    ];
    assert_eq!(read(&new, ALL).0, expected);
    let names = |range| new.label_values("__name__", range, &[], &Control::new()).expect("answers");
    assert_eq!(names(ALL), ["a", "b", "c"]);
    assert_eq!(names(TimeRange { mint: 0, maxt: 19 }), ["a", "c"], "one block alone");
    assert_eq!(new.label_names(ALL, &[], &Control::new()).expect("answers"), ["__name__", "job"]);

    // A set keeps its view.
    let set = old.select(&params(), &[], &Control::new()).expect("answers");
    drop(old);
    assert_eq!(views.head_mint_read(), i64::MIN);
    drop(set);
    assert_eq!(views.head_mint_read(), 40);
}

#[test]
fn a_damaged_chunk_of_a_block_costs_its_samples_and_is_told() {
    let vfs = SimVfs::new(1);
    let head = head(&[("a", &[(30, 1.0)])]);
    let all: [(&str, &[(i64, f64)]); 2] = [("a", &[(10, 2.0), (11, 2.5)]), ("b", &[(10, 2.0)])];
    drop(block(&vfs, 1, (0, 20), &all));
    let path = Path::new("/").join(Ulid::new(1, 1).to_string()).join("chunks/000001");
    let mut bytes = vfs.get(&path).expect("the chunks");
    // Within the first chunk, which is that of series a.
    bytes[14] ^= 1;
    vfs.put(&path, &bytes);
    let views = Views::new(20, Arc::new([reopen(&vfs, 1)]));
    let reader = Reader::new(&head, views.pin());
    let (found, warnings) = read(&reader, ALL);
    assert_eq!(found, [(series("a"), vec![(30, 1.0)]), (series("b"), vec![(10, 2.0)])]);
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].contains("chunks/000001: corrupt at offset 8"), "{warnings:?}");
    // A query that does not touch it is as ever.
    assert_eq!(read(&reader, TimeRange { mint: 20, maxt: 40 }), (vec![(series("a"), vec![(30, 1.0)])], vec![]));
}
