//! The result of a query on its way into JSON, some elements at a time: an answer of any size takes the memory of its values
//! and of a few pieces of text, and its values go as they are written.
//!
//! Whoever has evaluated the query renders the beginning ([`Rendering::go_on`]); most answers end there, and have a known
//! length. The rest of a large one is rendered piece by piece when the connection asks for more.

use fk_promql::{MatrixSeries, QueryError, Value, VectorSample};
use fk_storage::{Control, Reservation, Stopped};

use crate::answer::{ApiError, ChunkWriter};
use crate::json;

/// Elements between two looks at the clock.
const CHECK_EVERY: usize = 256;

/// Most points written at once. Range queries over HTTP have fewer steps.
const POINTS_MAX: usize = 1 << 14;

/// What is left to write.
enum Elements {
    Nothing,
    Vector(std::vec::IntoIter<VectorSample>),
    /// The series that is being written, and how many of its points are; the other series.
    Matrix(Option<(MatrixSeries, usize)>, std::vec::IntoIter<MatrixSeries>),
}

/// A value under way.
pub(crate) struct Rendering {
    elements: Elements,
    /// Elements begun so far.
    begun: usize,
    points: json::Points,
    /// What follows the value.
    tail: Vec<u8>,
    control: Control,
    /// What the values count for.
    _memory: Option<Reservation>,
}

impl std::fmt::Debug for Rendering {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Rendering({} elements begun)", self.begun)
    }
}

impl Rendering {
    /// Writes the beginning of `"resultType":...,"result":...`; `tail` is written behind all of it. `control` is looked at now
    /// and then: nobody may be waiting any more.
    pub(crate) fn begin(out: &mut ChunkWriter, value: Value, tail: Vec<u8>, control: Control) -> Rendering {
        let kind = match &value {
            Value::Scalar { .. } => "scalar",
            Value::String { .. } => "string",
            Value::Vector(_) => "vector",
            Value::Matrix(_) => "matrix",
        };
        let buffer = out.buffer();
        buffer.extend_from_slice(b"\"resultType\":\"");
        buffer.extend_from_slice(kind.as_bytes());
        buffer.extend_from_slice(b"\",\"result\":");
        if matches!(value, Value::Vector(_) | Value::Matrix(_)) {
            buffer.push(b'[');
        }
        let elements = match value {
            Value::Scalar { t_ms, v } => {
                json::write_scalar(buffer, t_ms, v);
                Elements::Nothing
            }
            Value::String { t_ms, v } => {
                json::write_string_value(buffer, t_ms, &v);
                Elements::Nothing
            }
            Value::Vector(samples) => Elements::Vector(samples.into_iter()),
            Value::Matrix(series) => Elements::Matrix(None, series.into_iter()),
        };
        Rendering { elements, begun: 0, points: json::Points::default(), tail, control, _memory: None }
    }

    /// Writes on until `out` has `bytes_max` or a little more, or everything is written. Whether it is.
    pub(crate) fn go_on(&mut self, out: &mut ChunkWriter, bytes_max: usize) -> Result<bool, ApiError> {
        self.write_on(out, bytes_max).map_err(|stopped| ApiError::from(QueryError::Stopped(stopped)))
    }

    fn write_on(&mut self, out: &mut ChunkWriter, bytes_max: usize) -> Result<bool, Stopped> {
        while out.len() < bytes_max {
            if !self.element(out)? {
                out.buffer().append(&mut self.tail);
                return Ok(true);
            }
            out.spill()?;
            if self.begun.is_multiple_of(CHECK_EVERY) {
                self.control.check()?;
            }
        }
        Ok(false)
    }

    /// From now on nothing hurries: the query's time is for its evaluation, and a client that goes takes this along.
    /// `memory` is what the values count for, which they do until all is written.
    pub(crate) fn unhurried(self, memory: Reservation) -> Rendering {
        Rendering { control: Control::new(), _memory: Some(memory), ..self }
    }

    /// Writes an element, or some of the points of one. `false`: that was the last.
    fn element(&mut self, out: &mut ChunkWriter) -> Result<bool, Stopped> {
        match &mut self.elements {
            Elements::Nothing => return Ok(false),
            Elements::Vector(rest) => match rest.next() {
                Some(sample) => {
                    self.comma(out);
                    write_vector_sample(out, &sample);
                }
                None => {
                    out.buffer().push(b']');
                    self.elements = Elements::Nothing;
                }
            },
            Elements::Matrix(Some((series, _)), _) if !series.histograms.is_empty() => {
                write_with_histograms(out, series, &self.control)?;
                self.close();
            }
            Elements::Matrix(Some((series, written)), _) => {
                if *written == 0 {
                    out.buffer().extend_from_slice(b",\"values\":[");
                }
                let end = series.t.len().min(*written + POINTS_MAX);
                if *written > 0 {
                    out.buffer().push(b',');
                }
                self.points.write(out, &series.t[*written..end], &series.v[*written..end])?;
                *written = end;
                if end == series.t.len() {
                    out.buffer().extend_from_slice(b"]}");
                    self.close();
                }
            }
            Elements::Matrix(current, rest) => match rest.next() {
                Some(series) => {
                    *current = Some((series, 0));
                    self.open(out);
                }
                None => {
                    out.buffer().push(b']');
                    self.elements = Elements::Nothing;
                }
            },
        }
        Ok(true)
    }

    fn comma(&mut self, out: &mut ChunkWriter) {
        if self.begun > 0 {
            out.buffer().push(b',');
        }
        self.begun += 1;
    }

    /// Begins the series that is current now.
    fn open(&mut self, out: &mut ChunkWriter) {
        self.comma(out);
        if let Elements::Matrix(Some((series, _)), _) = &self.elements {
            let buffer = out.buffer();
            buffer.extend_from_slice(b"{\"metric\":");
            json::write_labels(buffer, &series.labels);
        }
    }

    /// Lets go of the series that is written.
    fn close(&mut self) {
        if let Elements::Matrix(current, _) = &mut self.elements {
            *current = None;
        }
    }
}

fn write_vector_sample(out: &mut ChunkWriter, sample: &VectorSample) {
    let buffer = out.buffer();
    buffer.extend_from_slice(b"{\"metric\":");
    json::write_labels(buffer, &sample.labels);
    match &sample.h {
        None => {
            buffer.extend_from_slice(b",\"value\":");
            json::write_point(buffer, sample.t_ms, sample.v);
        }
        Some(h) => {
            buffer.extend_from_slice(b",\"histogram\":");
            json::write_histogram_point(buffer, sample.t_ms, h);
        }
    }
    buffer.push(b'}');
}

/// The points of a series that has histograms among them, and its end: the floats and then the histograms.
fn write_with_histograms(out: &mut ChunkWriter, series: &MatrixSeries, control: &Control) -> Result<(), Stopped> {
    for (key, histograms) in [(&b",\"values\":["[..], false), (b",\"histograms\":[", true)] {
        let mut points = series.points().filter(|(_, _, h)| h.is_some() == histograms).peekable();
        if points.peek().is_none() {
            continue;
        }
        out.buffer().extend_from_slice(key);
        for (at, (t_ms, v, h)) in points.enumerate() {
            if at > 0 {
                out.buffer().push(b',');
            }
            if at % CHECK_EVERY == CHECK_EVERY - 1 {
                control.check()?;
            }
            out.spill()?;
            match h {
                None => json::write_point(out.buffer(), t_ms, v),
                Some(h) => json::write_histogram_point(out.buffer(), t_ms, h),
            }
        }
        out.buffer().push(b']');
    }
    out.buffer().push(b'}');
    Ok(())
}
