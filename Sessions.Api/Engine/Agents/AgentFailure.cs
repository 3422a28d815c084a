using System.ClientModel;
using System.Globalization;
using System.Net.Sockets;
using System.Text.Json;
using Polly;
using Polly.CircuitBreaker;
using Polly.RateLimiting;
using Polly.Timeout;
using Sessions.Api.Domain;

namespace Sessions.Api.Engine.Agents;

/// <summary>A provider's answer can't be used: it says so itself, or it breaks off.</summary>
/// <param name="kind">In what way.</param>
/// <param name="said">What it said, for spans and logs that may hold content.</param>
internal sealed class ProviderException(ProviderFault kind, string? said = null) : IOException(said ?? $"The provider's answer: {kind}.")
{
    /// <summary>In what way.</summary>
    public ProviderFault Kind { get; } = kind;
}

/// <summary>In what way a provider's answer can't be used.</summary>
internal enum ProviderFault
{
    /// <summary>An error instead of an answer, or in the middle of one: see <see cref="AgentCall.Refusal"/>.</summary>
    Refused,

    /// <summary>It ends before its end.</summary>
    BrokenOff,

    /// <summary>More bytes or pieces than allowed.</summary>
    TooLarge,
}

/// <summary>Failures of agents, in words fit for a client: no addresses, no keys, nothing of the provider's own text.</summary>
internal static class AgentFailure
{
    // Answers of a provider whose circuit is open are waited for in vain for as long as that.
    private static readonly TimeSpan CircuitBreak = TimeSpan.FromSeconds(5);

    /// <summary>What it was, below what libraries put around it.</summary>
    public static Exception CauseOf(Exception e)
    {
        for (var inner = e; inner is not null; inner = inner is DiscreetException discreet ? discreet.Hidden : inner.InnerException)
        {
            if (inner is AgentException or ProviderException or ClientResultException or ExecutionRejectedException)
            {
                return inner;
            }
        }

        return e is DiscreetException { Hidden: var hidden } ? hidden : e;
    }

    /// <summary>What failed.</summary>
    /// <param name="e">What a library said.</param>
    /// <param name="call">What is known of the question.</param>
    public static AgentException Describe(Exception e, AgentCall? call) => DescribeCause(CauseOf(e), call);

    /// <summary>It took too long.</summary>
    public static Error TimedOut(TimeSpan? timeout) => new(
        "agent_timeout", timeout is { } limit
            ? string.Create(CultureInfo.InvariantCulture, $"The agent did not answer within {limit.TotalSeconds:0.###} s.")
            : "The agent did not answer in time.")
    {
        MayRetry = false,
    };

    /// <summary>It failed in a way that asking again won't mend: what could be repeated was.</summary>
    public static Error Failed(string message) => new("agent_failed", message) { MayRetry = false };

    /// <summary>What it answered makes no sense.</summary>
    public static AgentException Unreadable(Exception? e) => new(Failed("The agent's answer can't be read."), e);

    /// <summary>What it answered is too long.</summary>
    public static AgentException TooLong(int maxBytes) =>
        new(Failed($"The agent's answer is longer than the {maxBytes} bytes that limits.response_bytes allows."));

    /// <summary>Whether there was no connection, or it went away.</summary>
    public static bool IsUnreachable(Exception e) =>
        e.GetBaseException() is HttpRequestException or SocketException or IOException || e is AggregateException or HttpRequestException;

    /// <summary>Why not, in a word: the libraries' own texts hold addresses and more.</summary>
    public static string WhyUnreachable(Exception e)
    {
        for (var inner = e; inner is not null; inner = inner.InnerException)
        {
            if (inner is ProviderException)
            {
                return "without its end";
            }

            if (inner is SocketException socket)
            {
                return socket.SocketErrorCode.ToString();
            }

            if (inner is HttpRequestException http
                && http.HttpRequestError is not HttpRequestError.Unknown and not HttpRequestError.ConnectionError)
            {
                return http.HttpRequestError.ToString();
            }
        }

        return e.GetBaseException().GetType().Name;
    }

    private static AgentException DescribeCause(Exception e, AgentCall? call) => e switch
    {
        AgentException known => known,
        ProviderException { Kind: ProviderFault.Refused } =>
            new AgentException(Refused(call?.Refusal ?? new ProviderRefusal(null, null, null, null)), e),
        ProviderException { Kind: ProviderFault.TooLarge } =>
            new AgentException(Failed("The agent's provider sent more than agents.<name>.provider_bytes or provider_pieces allows."), e),
        ProviderException => new AgentException(Failed("The agent's provider broke its answer off."), e),
        ClientResultException { Status: > 0 } result =>
            new AgentException(Refused(call?.Refusal ?? new ProviderRefusal(result.Status, null, null, null)), e),
        BrokenCircuitException =>
            new AgentException(Unavailable("The agent's provider has failed too often just now; it is not asked for a few seconds."), e),
        RateLimiterRejectedException => new AgentException(Unavailable("The agent's provider is being asked too much at once."), e),
        TimeoutRejectedException => new AgentException(TimedOut(call?.Timeout), e),
        _ when call?.Refusal is { } refusal => new AgentException(Refused(refusal), e),
        _ when IsUnreachable(e) => new AgentException(
            Failed(call is { IsAnswering: true } or { IsBrokenOff: true }
                ? "The agent's provider broke its answer off."
                : "The agent's provider can't be reached."), e),
        // Half a surrogate pair in what is JSON otherwise is an InvalidOperationException.
        _ when e.GetBaseException() is JsonException => Unreadable(e),
        InvalidOperationException or FormatException or ArgumentException or KeyNotFoundException => Unreadable(e),
        _ => new AgentException(Failed($"The agent failed ({e.GetType().Name})."), e),
    };

    private static Error Refused(ProviderRefusal refusal)
    {
        var status = refusal.Status is { } number ? $" with status {number}" : "";
        var code = refusal.Code is null ? "" : $" ({refusal.Code})";
        var error = refusal.Status switch
        {
            401 or 403 => new Error("agent_unauthorized",
                $"The agent's provider answered{status}{code}: it does not accept the key that this server has for it."),
            404 => new Error("agent_not_found", $"The agent's provider answered{status}{code}: it has no such address or model."),
            429 => new Error("agent_rate_limited",
                $"The agent's provider answered{status}{code}: it is asked too often, or its quota is used up.")
            {
                RetryAfter = refusal.RetryAfter,
            },
            null => new Error("agent_failed", $"The agent's provider answered with an error{code}."),
            _ => new Error("agent_failed", $"The agent's provider answered{status}{(refusal.Code is null ? "." : $"{code}.")}")
            {
                RetryAfter = refusal.RetryAfter,
            },
        };
        return error with { Provider = (refusal.Status, refusal.Code), MayRetry = error.RetryAfter is not null };
    }

    private static Error Unavailable(string message) => new("agent_failed", message) { RetryAfter = CircuitBreak, MayRetry = true };
}
