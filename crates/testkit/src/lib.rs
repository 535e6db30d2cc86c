//! Helpers of the tests: a storage in memory that is simple enough to be right, temporary directories, and the place of
//! the conformance data. Never part of the product.

pub mod memory;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

pub use memory::MemoryStorage;

/// The folder of shared conformance data, if this machine has it: `$FIREKEEPER_CONFORMANCE`, or `shared/conformance`
/// beside the project. Tests that need it say loudly that they are skipped without it.
pub fn conformance(part: &str) -> Option<PathBuf> {
    let root = match std::env::var_os("FIREKEEPER_CONFORMANCE") {
        Some(root) => PathBuf::from(root),
        None => {
            let here = Path::new(env!("CARGO_MANIFEST_DIR"));
            here.ancestors().map(|a| a.join("shared/conformance")).find(|p| p.is_dir())?
        }
    };
    let path = root.join(part);
    if path.exists() {
        Some(path)
    } else {
        eprintln!("SKIPPED: no conformance data at {}", path.display());
        None
    }
}

/// A fresh directory, removed when dropped.
#[derive(Debug)]
pub struct TempDir(PathBuf);

impl TempDir {
    /// A new empty directory below the system's temporary directory.
    pub fn new(name: &str) -> TempDir {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let unique = format!("firekeeper-{name}-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(unique);
        std::fs::create_dir_all(&path).expect("the temporary directory is writable");
        TempDir(path)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        // Leaving a directory behind must not fail a test that has passed.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
