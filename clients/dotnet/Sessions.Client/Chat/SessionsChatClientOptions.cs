using Microsoft.Extensions.AI;

namespace Sessions.Client;

/// <summary>Which agent a <see cref="SessionsChatClient"/> asks, and for whom.</summary>
public sealed record SessionsChatClientOptions
{
    /// <summary>The server's agent, where <see cref="ChatOptions.ModelId"/> names none; the server's default where this is absent
    /// too.</summary>
    public string? AgentType { get; init; }

    /// <summary>The user who asks.</summary>
    public string? UserId { get; init; }
}

/// <summary>What requests of a <see cref="SessionsChatClient"/> can have beside the usual.</summary>
public static class SessionsChatOptionsExtensions
{
    internal const string IdempotencyKey = "idempotency_key";

    /// <summary>
    /// Makes a request that can be repeated by hand, also by another process: the same key and the same messages give the answer of the
    /// first one. Without it, the client's own retries are safe, as each call has a key of its own.
    /// </summary>
    public static ChatOptions WithIdempotencyKey(this ChatOptions options, string key)
    {
        ArgumentNullException.ThrowIfNull(options);
        ArgumentException.ThrowIfNullOrEmpty(key);
        (options.AdditionalProperties ??= [])[IdempotencyKey] = key;
        return options;
    }
}
