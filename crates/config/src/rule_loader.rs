//! Rule files: read, checked, expressions parsed.

use fk_model::name::NameValidation;

use crate::error::{FileKind, FileProblems, Problem, ProblemKind};
use crate::load::RuleOptions;
use crate::rule_file::RuleFile;

/// Reads the rule file `path` with content `text`.
///
/// Errors: everything that is wrong in it. Gives warnings beside the rules.
pub fn load_rule_file(
    path: &str,
    _text: &str,
    _validation: NameValidation,
    _options: RuleOptions,
) -> Result<(RuleFile, Vec<String>), FileProblems> {
    let message = "firekeeper does not support rule files yet, although Prometheus does".to_owned();
    let problem = Problem { kind: ProblemKind::Unsupported, line: 0, column: 0, message };
    Err(FileProblems { file: path.to_owned(), kind: FileKind::Rules, problems: vec![problem] })
}
