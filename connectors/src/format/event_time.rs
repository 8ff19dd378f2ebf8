//! Event times of rows, in microseconds since the epoch.

use arrow::array::{ArrayRef, AsArray, TimestampMicrosecondArray};
use arrow::compute::{cast, max, min};
use arrow::datatypes::{DataType, TimeUnit, TimestampMicrosecondType};

use crate::error::{Error, Result};

/// The times in a column, NULL where there is none.
pub(crate) fn times(column: &ArrayRef) -> Result<TimestampMicrosecondArray> {
    let times = cast(column, &DataType::Timestamp(TimeUnit::Microsecond, None))
        .map_err(|error| Error::Internal(format!("the event-time column holds no times: {error}")))?;
    Ok(times.as_primitive::<TimestampMicrosecondType>().clone())
}

/// The least and the greatest time in a column.
pub(crate) fn range(column: &ArrayRef) -> Result<Option<(i64, i64)>> {
    let times = times(column)?;
    Ok(min(&times).zip(max(&times)))
}
