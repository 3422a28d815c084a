namespace Sessions.Api.Http;

/// <summary>The HTTP status of each of the domain's errors; docs/errors.md lists them.</summary>
internal static class ErrorStatus
{
    /// <summary>The status of an error with that code.</summary>
    public static int Of(string code) => code switch
    {
        "unauthorized" => StatusCodes.Status401Unauthorized,
        "user_mismatch" or "forbidden" => StatusCodes.Status403Forbidden,
        "session_not_found" or "user_not_found" or "stream_not_found" or "no_turn_running" => StatusCodes.Status404NotFound,
        "session_busy" or "session_gone" or "session_exists" or "idempotency_in_progress" or "turn_conflict" or "turn_cancelled"
            or "tool_output_required"
            => StatusCodes.Status409Conflict,
        "rate_limited" => StatusCodes.Status429TooManyRequests,
        "cancelled" => StatusCodes.Status499ClientClosedRequest,
        "internal_error" => StatusCodes.Status500InternalServerError,
        "agent_timeout" => StatusCodes.Status504GatewayTimeout,
        "storage_unavailable" or "storage_damaged" or "storage_full" or "overloaded" or "shutting_down" or "authentication_unavailable"
            => StatusCodes.Status503ServiceUnavailable,
        _ when code.StartsWith("agent_", StringComparison.Ordinal) => StatusCodes.Status502BadGateway,
        _ => StatusCodes.Status422UnprocessableEntity,
    };
}
