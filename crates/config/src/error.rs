//! What is wrong with a configuration: every problem with its file and place, in the words Prometheus uses.

use std::fmt;

/// What kind of refusal a problem is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProblemKind {
    /// A file cannot be read.
    Io,
    /// No YAML.
    Syntax,
    /// YAML of another shape than the configuration: an unknown field, a wrong type, a repeated key.
    Unmarshal,
    /// The right shape with a value that cannot be.
    Invalid,
    /// Prometheus would take it, Firekeeper cannot do it yet.
    Unsupported,
}

/// One problem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Its kind.
    pub kind: ProblemKind,
    /// Line in the file, from 1; 0: not known.
    pub line: usize,
    /// Column in the line, from 1; 0: not known.
    pub column: usize,
    /// What is wrong.
    pub message: String,
}

/// What a file is for, which decides how Prometheus words its errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// The main file, or one of `scrape_config_files`.
    Config,
    /// One of `rule_files`.
    Rules,
    /// The web configuration file.
    Web,
}

/// The problems of one file. Invariant: not empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileProblems {
    /// The file as it was named.
    pub file: String,
    /// What it is for.
    pub kind: FileKind,
    /// Its problems, in the order they were found.
    pub problems: Vec<Problem>,
}

/// Everything that keeps a configuration from being loaded, file by file. Invariant as an error: not empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfigErrors {
    /// The files with problems.
    pub files: Vec<FileProblems>,
}

impl ConfigErrors {
    /// All problems.
    pub fn problems(&self) -> impl Iterator<Item = &Problem> {
        self.files.iter().flat_map(|file| &file.problems)
    }

    /// What this server cannot run, and what is wrong.
    pub fn split(self) -> (ConfigErrors, ConfigErrors) {
        let (mut not_built, mut wrong) = (ConfigErrors::default(), ConfigErrors::default());
        for file in self.files {
            let (unsupported, other): (Vec<_>, Vec<_>) =
                file.problems.into_iter().partition(|problem| problem.kind == ProblemKind::Unsupported);
            for (problems, into) in [(unsupported, &mut not_built), (other, &mut wrong)] {
                if !problems.is_empty() {
                    into.files.push(FileProblems { file: file.file.clone(), kind: file.kind, problems });
                }
            }
        }
        (not_built, wrong)
    }

    /// Whether Prometheus would take this configuration as far as it was checked.
    pub fn only_unsupported(&self) -> bool {
        self.problems().all(|problem| problem.kind == ProblemKind::Unsupported)
    }
}

impl std::error::Error for ConfigErrors {}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, file) in self.files.iter().enumerate() {
            if at > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{file}")?;
        }
        Ok(())
    }
}

impl fmt::Display for FileProblems {
    /// One line per problem; problems of the shape are listed together under one heading, as the YAML library of
    /// Prometheus does.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Text as in Prometheus:
        let prefix = match self.kind {
            FileKind::Config => format!("parsing YAML file {}: ", self.file),
            FileKind::Rules => format!("{}: ", self.file),
            // Whoever reads this file names it.
            FileKind::Web => String::new(),
        };
        let mut first = true;
        let mut line_break =
            |f: &mut fmt::Formatter<'_>| if std::mem::take(&mut first) { Ok(()) } else { f.write_str("\n") };
        let shape = || self.problems.iter().filter(|p| p.kind == ProblemKind::Unmarshal);
        if shape().next().is_some() {
            line_break(f)?;
            write!(f, "{prefix}yaml: unmarshal errors:")?;
            for problem in shape() {
                write!(f, "\n  line {}: {}", problem.line, problem.message)?;
            }
        }
        for problem in &self.problems {
            let Problem { kind, line, column, message } = problem;
            match (kind, self.kind) {
                (ProblemKind::Unmarshal, _) => {}
                (ProblemKind::Io, _) => {
                    line_break(f)?;
                    f.write_str(message)?;
                }
                (ProblemKind::Syntax, _) if *line > 0 => {
                    line_break(f)?;
                    write!(f, "{prefix}yaml: line {line}: {message}")?;
                }
                (ProblemKind::Syntax, _) => {
                    line_break(f)?;
                    write!(f, "{prefix}yaml: {message}")?;
                }
                (_, FileKind::Rules) if *line > 0 => {
                    line_break(f)?;
                    write!(f, "{prefix}{line}:{column}: {message}")?;
                }
                (_, FileKind::Config | FileKind::Web) if *line > 0 => {
                    line_break(f)?;
                    write!(f, "{prefix}{message} (line {line}, column {column})")?;
                }
                _ => {
                    line_break(f)?;
                    write!(f, "{prefix}{message}")?;
                }
            }
        }
        Ok(())
    }
}
