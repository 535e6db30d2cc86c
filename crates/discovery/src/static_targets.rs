//! `static_configs`: targets that stand in the configuration.

use std::path::PathBuf;
use std::time::Duration;

use fk_model::TargetGroup;

use crate::{Provider, Refresh};

/// Gives its groups once.
#[derive(Debug)]
pub struct StaticProvider {
    /// Empty after the first look.
    groups: Vec<TargetGroup>,
}

impl StaticProvider {
    /// A provider of these groups.
    pub fn new(groups: Vec<TargetGroup>) -> StaticProvider {
        StaticProvider { groups }
    }
}

impl Provider for StaticProvider {
    fn refresh(&mut self) -> Refresh {
        Refresh { groups: std::mem::take(&mut self.groups), ..Refresh::default() }
    }

    fn watch_paths(&self) -> Vec<PathBuf> {
        Vec::new()
    }

    fn refresh_interval(&self) -> Option<Duration> {
        None
    }
}

#[cfg(test)]
mod tests {
    use fk_model::Labels;

    use super::*;

    #[test]
    fn groups_are_given_once() {
        let targets = vec![Labels::from_pairs([("__address__", "a:1")])];
        let group = TargetGroup { source: "0".into(), labels: Labels::empty(), targets };
        let mut provider = StaticProvider::new(vec![group.clone()]);
        assert_eq!(provider.refresh().groups, [group]);
        assert!(provider.refresh().groups.is_empty());
    }
}
