//! For fuzz targets: images of the head with changed bytes, whose checksums fit nevertheless.

use std::sync::OnceLock;

use fk_model::stale_nan;
use fk_storage::{
    AppendReport, Appender, Batch, BatchSample, Control, Exemplar, Queryable, Samples, SelectParams, SeriesRef,
    TimeRange,
};
use fk_vfs::sim::SimVfs;

use super::*;
use crate::read::Reader;
use crate::view::Views;
use crate::{Db, DbOptions};

const ALL: TimeRange = TimeRange { mint: i64::MIN, maxt: i64::MAX };

const DATA: &str = "/data";

const START: i64 = 1_700_000_000_000;

/// Changes made to one image.
const PATCHES_MAX: usize = 16;

/// Series that are read and appended to.
const SERIES_MAX: usize = 1000;

/// Any bytes as a manifest, with a checksum that fits: refused, or they come back.
pub fn manifest(bytes: &[u8]) {
    let mut manifest = MAGIC.to_vec();
    manifest.extend_from_slice(bytes);
    manifest.extend_from_slice(&crc32c::crc32c(&manifest).to_le_bytes());
    if let Ok(parsed) = Manifest::decode(&manifest) {
        assert_eq!(parsed.encode(), manifest);
    }
}

/// Any bytes as changes of an image: it is refused, or makes a head that can be read, appended to, truncated and saved.
/// Returns how many series it had. Each change is the number of a part (one behind the last stands for the numbers that
/// are kept beside the parts), an offset in it, and how many of the bytes that follow are put there.
pub fn patched_image(input: &[u8]) -> Option<usize> {
    static TEMPLATE: OnceLock<(SimVfs, Manifest, Vec<u8>)> = OnceLock::new();
    let (vfs, manifest, data) = TEMPLATE.get_or_init(template);
    let (vfs, mut manifest, mut data) = (vfs.fork(1), manifest.clone(), data.clone());
    let mut rest = input;
    for _ in 0..PATCHES_MAX {
        let Some((&[part, low, high, len], behind)) = rest.split_first_chunk::<4>() else { break };
        let (bytes, behind) = behind.split_at(behind.len().min(usize::from(len % 16)));
        rest = behind;
        patch(&mut manifest, &mut data, usize::from(part), usize::from(u16::from_le_bytes([low, high])), bytes);
    }
    for place in &mut manifest.parts {
        let bytes = data.get(place.offset as usize..).and_then(|from| from.get(..place.len as usize));
        place.crc = bytes.map_or(0, crc32c::crc32c);
    }
    vfs.put(&data_path(&image_dir(), manifest.data), &data);
    vfs.put(&image_dir().join(MANIFEST), &manifest.encode());
    let files = ChunkFiles::new(Arc::new(vfs.clone()), Path::new(DATA).join("chunks_head"));
    let loaded = load(&vfs, Path::new(DATA), &Path::new(DATA).join("wal"), HeadOptions::default(), files);
    let Loaded { head, exemplars, .. } = loaded.ok()??;
    assert!(exemplars.len() <= data.len() / 16);
    use_head(head)
}

fn image_dir() -> PathBuf {
    Path::new(DATA).join(DIR)
}

/// A directory with an image that has something of everything, its manifest and its data.
fn template() -> (SimVfs, Manifest, Vec<u8>) {
    let vfs = SimVfs::new(1);
    let db =
        Db::open(DbOptions { vfs: Arc::new(vfs.clone()), ..DbOptions::new(DATA) }, &|_| {}).expect("an open storage");
    db.exemplars.configure(10, 0);
    let series = |i: usize| Labels::from_pairs([("__name__", "m"), ("i", &*i.to_string())]);
    let append = |n: i64| {
        let mut batch = Batch::default();
        for i in 0..8 {
            let v = match i {
                0 => 1.0,
                1 => (n as f64).sqrt(),
                2 if n % 50 == 49 => stale_nan(),
                i => (n + i as i64) as f64,
            };
            batch.push(db.resolve(&series(i)).expect("a series"), START + n * 15_000, v);
        }
        db.append(&batch, &mut AppendReport::default()).expect("appended");
    };
    (0..300).for_each(append);
    db.spill().expect("chunks in files");
    (300..560).for_each(append);
    for i in 0..3 {
        db.exemplars.add(&series(i), Exemplar { labels: series(i + 1), v: i as f64, t: START });
    }
    let chosen = [fk_model::Matcher::equal("i", "3")];
    let deleted = TimeRange { mint: START, maxt: START + 100_000 };
    db.delete_from_head(deleted, &[chosen.to_vec()], false, &Control::new()).expect("deleted");
    db.write_image().expect("an image");
    drop(db);
    vfs.kill();
    let read = |path: &Path| vfs::read_file(&vfs, path, MANIFEST_BYTES_MAX).expect("a file of the image");
    let manifest = Manifest::decode(&read(&image_dir().join(MANIFEST))).expect("a manifest");
    let data = read(&data_path(&image_dir(), manifest.data));
    (vfs, manifest, data)
}

/// Puts `bytes` at an offset of a part; both are taken modulo what there is. Of the numbers beside the parts the last byte
/// tells which one is replaced.
fn patch(manifest: &mut Manifest, data: &mut [u8], part: usize, offset: usize, bytes: &[u8]) {
    let parts = manifest.parts.len();
    let filled: Vec<usize> = (0..parts).filter(|i| manifest.parts.get(*i).is_some_and(|p| p.len > 0)).collect();
    if let Some(&idx) = filled.get(part % (filled.len() + 1)) {
        let Some(place) = manifest.parts.get_mut(idx) else { return };
        let at = place.offset.saturating_add(offset as u64 % place.len) as usize;
        let end = place.offset.saturating_add(place.len) as usize;
        let target = data.get_mut(at..end).unwrap_or_default();
        target.iter_mut().zip(bytes).for_each(|(old, new)| *old = *new);
        return;
    }
    let number = bytes.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte));
    let any = offset / 8 % parts.max(1);
    match (offset % 8, manifest.parts.get_mut(any)) {
        (0, _) => manifest.basics.min_time = number as i64,
        (1, _) => manifest.basics.max_time = number as i64,
        (2, _) => manifest.basics.next_ref = number,
        (3, _) => manifest.basics.min_valid_time = number as i64,
        (4, _) => manifest.basics.seed = number,
        (5, Some(place)) => place.items = number,
        (6, Some(place)) => place.len = number,
        (_, Some(place)) => place.offset = number,
        (_, None) => {}
    }
}

/// Does with a head what a storage does; returns how many series it has.
fn use_head(head: Head) -> Option<usize> {
    let head = Arc::new(head);
    let views = Views::default();
    let read = || {
        let params = SelectParams { range: ALL, sorted: true, limit: 0 };
        let set = Reader::new(&head, views.pin()).select(&params, &[], &Control::new()).ok()?;
        let mut samples = Samples::default();
        for idx in 0..set.len().min(SERIES_MAX) {
            // An error where the bytes of a chunk are none.
            let _ = (set.labels(idx), set.read(idx, ALL, &mut samples));
        }
        Some(set.len())
    };
    let found = read()?;
    let _ = head.stats(10);
    let newest = head.time_range().map_or(START, |(_, newest)| newest);
    // Further and further apart, so that chunks end.
    for step in 1..=12 {
        let mut batch = Batch::default();
        for reference in 1..=10 {
            let t = newest.saturating_add(step * step * 60_000);
            batch.samples.push(BatchSample { series: SeriesRef(reference), t, v: step as f64 });
        }
        let _ = head.append(&batch, &mut AppendReport::default(), &|_| Ok(()));
    }
    let _ = head.spill();
    read()?;
    let (mut files, mut saved) = (Files::new(), 0);
    for part in Part::all().filter(|part| *part != Part::Exemplars) {
        let result = head.save(part, &mut files, &mut |bytes, _| {
            saved += bytes.len();
            Ok::<(), ()>(())
        });
        assert_eq!(result, Ok(()));
    }
    assert!(saved > 0);
    let _ = head.truncate(newest, 1);
    read()?;
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_made_and_met() {
        assert_eq!(patched_image(&[]), Some(8));
        // The first word of each part that has anything: hashes may be any number, lengths may not.
        let refused = (0..32).filter(|part| patched_image(&[*part, 0, 0, 4, 0xff, 0xff, 0xff, 0xff]).is_none()).count();
        assert!(refused > 2, "{refused}");
        manifest(b"short");
    }
}
