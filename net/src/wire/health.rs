//! gRPC's health service: only the empty service name, the server as a whole, is known.

use bytes::{Bytes, BytesMut};

use super::{append, decode};
use crate::call::{Code, GrpcStatus};
use crate::proto::health as pb;
use crate::proto::health::health_check_response::ServingStatus;

/// What the health service says of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Serving {
    /// It answers.
    Serving,
    /// It does not.
    NotServing,
    /// There is none of that name; only Watch says so, Check answers
    /// [`unknown_health_service`].
    ServiceUnknown,
}

/// Reads the request of Check and Watch: the service's name.
pub fn decode_health_check(message: &Bytes) -> Result<String, GrpcStatus> {
    let request: pb::HealthCheckRequest = decode(message)?;
    Ok(request.service)
}

/// Appends the response of Check, or one message of Watch.
pub fn encode_health(serving: Serving, out: &mut BytesMut) {
    append(&response(serving), out);
}

/// Appends the response of List: the server as a whole under its empty name.
pub fn encode_health_list(serving: Serving, out: &mut BytesMut) {
    let statuses = [(String::new(), response(serving))].into();
    append(&pb::HealthListResponse { statuses }, out);
}

/// How Check ends for a name that is not known.
pub fn unknown_health_service() -> GrpcStatus {
    GrpcStatus { code: Code::NotFound, message: "unknown service".into() }
}

fn response(serving: Serving) -> pb::HealthCheckResponse {
    let status = match serving {
        Serving::Serving => ServingStatus::Serving,
        Serving::NotServing => ServingStatus::NotServing,
        Serving::ServiceUnknown => ServingStatus::ServiceUnknown,
    };
    pb::HealthCheckResponse { status: status.into() }
}
