using Sessions.Api.Domain;

namespace Sessions.Api.Engine;

/// <summary>How far the server is with stopping.</summary>
internal sealed class Stopping : IDisposable
{
    private static readonly TimeSpan RetryAfter = TimeSpan.FromSeconds(2);

    private readonly CancellationTokenSource _timeIsUp = new();
    private volatile bool _isRequested;

    /// <summary>Whether the server was told to stop: nothing new is begun.</summary>
    public bool IsRequested => _isRequested;

    /// <summary>Cancelled when what is still running has used up its time (<see cref="LimitSettings.ShutdownSeconds"/>).</summary>
    public CancellationToken TimeIsUp => _timeIsUp.Token;

    /// <summary>The answer from now on.</summary>
    public static Error Refusal { get; } =
        new("shutting_down", "The server is stopping; nothing of this request was kept.") { RetryAfter = RetryAfter };

    /// <summary>The server was told to stop.</summary>
    public void Request() => _isRequested = true;

    /// <summary>Ends what is still running.</summary>
    public void EndTurns() => _timeIsUp.Cancel();

    public void Dispose() => _timeIsUp.Dispose();
}
