//! The two text formats line by line, for whoever knows most lines already.

use std::borrow::Cow;

use crate::text::{Entry, Sample};
use crate::{ExposedExemplar, MediaType, MetricType, OpenMetricsEntry, OpenMetricsParser, ParseError, TextParser};

/// A cursor over the sample lines of a body that may be put anywhere. All formats of this kind begin a line with the series, and
/// where the value is an ordinary number that nothing follows, it looks the same in all of them.
pub trait Lines<'a>: Sized {
    /// Which format this is.
    const MEDIA_TYPE: MediaType;

    /// At the start of `body`.
    fn at_start(body: &'a [u8]) -> Self;

    /// Goes to `offset`, which must be the start of a line, with the type that the last TYPE line before it names.
    fn go_to(&mut self, offset: usize, kind: MetricType);

    /// The next sample; `None` at the end of the body, if that is as it has to be.
    fn next_sample(&mut self) -> Result<Option<Sample<'a>>, ParseError>;

    /// Reads what follows a series and one blank at `offset`: value, perhaps time in ms, and more, up to behind the line break. For
    /// whoever has recognised the series. On an error the line must be read as a whole to get the right error.
    fn rest_of_line(&mut self, offset: usize) -> Result<(f64, Option<i64>), ParseError>;

    /// Where the next line begins, bytes.
    fn line_end(&self) -> usize;

    /// The type in effect.
    fn kind(&self) -> MetricType;

    /// Calls `found(name, value)` for each label of the last sample, as [`crate::Exposition::for_each_label`].
    fn labels(&self, found: impl FnMut(Cow<'a, str>, Cow<'a, str>));

    /// The exemplar of the last line.
    fn exemplar_into(&self, exemplar: &mut ExposedExemplar) -> bool;
}

impl<'a> Lines<'a> for TextParser<'a> {
    const MEDIA_TYPE: MediaType = MediaType::Text;

    fn at_start(body: &'a [u8]) -> Self {
        TextParser::new(body)
    }

    fn go_to(&mut self, offset: usize, kind: MetricType) {
        self.seek(offset, kind);
    }

    fn next_sample(&mut self) -> Result<Option<Sample<'a>>, ParseError> {
        loop {
            match self.next()? {
                Some(Entry::Sample(sample)) => return Ok(Some(sample)),
                Some(_) => {}
                None => return Ok(None),
            }
        }
    }

    #[inline]
    fn rest_of_line(&mut self, offset: usize) -> Result<(f64, Option<i64>), ParseError> {
        self.value_at(offset)
    }

    #[inline]
    fn line_end(&self) -> usize {
        self.offset()
    }

    fn kind(&self) -> MetricType {
        self.metric_type()
    }

    fn labels(&self, found: impl FnMut(Cow<'a, str>, Cow<'a, str>)) {
        self.for_each_label(found);
    }

    fn exemplar_into(&self, _: &mut ExposedExemplar) -> bool {
        false
    }
}

impl<'a> Lines<'a> for OpenMetricsParser<'a> {
    const MEDIA_TYPE: MediaType = MediaType::OpenMetrics;

    fn at_start(body: &'a [u8]) -> Self {
        OpenMetricsParser::new(body)
    }

    fn go_to(&mut self, offset: usize, kind: MetricType) {
        self.seek(offset, kind);
    }

    fn next_sample(&mut self) -> Result<Option<Sample<'a>>, ParseError> {
        loop {
            match self.next()? {
                Some(OpenMetricsEntry::Sample(sample)) => return Ok(Some(sample)),
                Some(_) => {}
                None => return Ok(None),
            }
        }
    }

    fn rest_of_line(&mut self, offset: usize) -> Result<(f64, Option<i64>), ParseError> {
        self.value_at(offset)
    }

    fn line_end(&self) -> usize {
        self.offset()
    }

    fn kind(&self) -> MetricType {
        self.metric_type()
    }

    fn labels(&self, found: impl FnMut(Cow<'a, str>, Cow<'a, str>)) {
        self.for_each_label(found);
    }

    fn exemplar_into(&self, exemplar: &mut ExposedExemplar) -> bool {
        let Some(found) = self.exemplar() else { return false };
        (exemplar.value, exemplar.timestamp) = (found.value, found.timestamp);
        exemplar.labels.clear();
        self.for_each_exemplar_label(|name, value| exemplar.labels.push((name.into_owned(), value.into_owned())));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check<'a, L: Lines<'a>>(body: &'a str, offset: usize, expected: Option<(f64, Option<i64>, usize)>) -> L {
        let mut lines = L::at_start(body.as_bytes());
        let found = lines.rest_of_line(offset).ok().map(|(value, t)| (value, t, lines.line_end()));
        assert_eq!(found, expected, "{body:?}");
        lines
    }

    #[test]
    fn lines_are_read_from_the_value_on() {
        let body = "a 1 2\nb 3 # {c=\"d\"} 4\n";
        check::<TextParser<'_>>(body, 2, Some((1.0, Some(2), 6)));
        check::<OpenMetricsParser<'_>>(body, 2, Some((1.0, Some(2000), 6)));
        let lines: OpenMetricsParser<'_> = check(body, 8, Some((3.0, None, body.len())));
        let mut exemplar = ExposedExemplar::default();
        assert!(lines.exemplar_into(&mut exemplar));
        assert_eq!((exemplar.value, exemplar.labels), (4.0, vec![("c".to_owned(), "d".to_owned())]));
        check::<TextParser<'_>>(body, 8, None);
        // One blank stands before a value, and none is at the start of a body.
        check::<OpenMetricsParser<'_>>("1\n", 0, None);
        check::<OpenMetricsParser<'_>>("a  1\n", 3, Some((1.0, None, 5)));
        check::<OpenMetricsParser<'_>>("a\t1\n", 2, None);
    }
}
