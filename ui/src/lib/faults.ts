// What is said of the API's errors: by their codes, never by their words.

import type { ServerError } from './client';
import type { FaultCode } from './kinds';

/** In words for a person; `null` where the server's own are as good. */
const FAULTS: Record<FaultCode | 'unreachable', string | null> = {
  interrupted: 'Samovar stopped before its end.',
  internal_error: 'Something went wrong while it was being written.',
  pool_exhausted: 'There is no memory for it now: other requests need it all.',
  rate_limit_exceeded: 'Too many requests are waiting.',
  context_length_exceeded: 'This chat is longer than the model can read. Start a new one.',
  shutting_down: 'Samovar takes no new messages now.',
  parked: 'Samovar takes no new messages now.',
  // Of an answer: the server that was to keep it is another one by now.
  request_not_found: 'Samovar stopped before its end.',
  unreachable: null,
  invalid_value: null,
  missing_required_parameter: null,
  unsupported_parameter: null,
  thread_unsupported_request: null,
  unknown_parameter: null,
  invalid_json: null,
  bad_request: null,
  request_timeout: null,
  request_too_large: null,
  too_many_bodies: null,
  too_many_requests_in_flight: null,
  uri_too_long: null,
  headers_too_large: null,
  unsupported_media_type: null,
  unsupported_content_encoding: null,
  host_not_allowed: null,
  origin_not_allowed: null,
  invalid_api_key: null,
  key_not_allowed: null,
  key_rate_limit_exceeded: null,
  key_not_found: null,
  unknown_url: null,
  method_not_allowed: null,
  model_not_found: null,
  response_not_found: null,
  previous_response_not_found: null,
  model_not_suitable: null,
  agent_not_found: null,
  chat_template_failed: null,
  no_chat_template: null,
  no_model: null,
  model_loading: null,
  engine_failed: null,
  illegal_transition: null,
};

/** Why an answer broke off. */
export function troubleOf(error: ServerError): string {
  return (error.code && FAULTS[error.code]) ?? error.message;
}
