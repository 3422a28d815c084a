using System.Net.Sockets;
using Microsoft.Extensions.Hosting;

namespace Sessions.ServiceDefaults;

/// <summary>How the programs end: what can be expected to go wrong is told in one sentence.</summary>
public static class ServiceProgram
{
    private const int Failed = 1;

    /// <summary>Runs a program.</summary>
    /// <param name="run">The program.</param>
    /// <param name="portOptions">Which options of it choose a port.</param>
    /// <param name="describe">The sentence for an exception of the program's own; <see langword="null"/> where it knows none.</param>
    /// <returns>The exit code: 0, or 1 where it failed.</returns>
    public static async Task<int> RunAsync(Func<Task> run, string portOptions, Func<Exception, string?>? describe = null)
    {
        try
        {
            await run();
            return 0;
        }
        catch (Exception e) when (e is not HostAbortedException)
        {
            await Console.Error.WriteLineAsync(describe?.Invoke(e) ?? Describe(e, portOptions));
            return Failed;
        }
    }

    // Anything else is told in full.
    private static string Describe(Exception exception, string portOptions) => exception switch
    {
        SettingsException or InvalidDataException or UnauthorizedAccessException => exception.Message,
        OperationCanceledException => "Interrupted.",
        _ when IsInUse(exception) => $"{exception.Message.TrimEnd('.')}. Choose another port with {portOptions}.",
        SocketException socket => $"The server can't listen on its address: {socket.Message}.",
        IOException => exception.Message,

        // Kestrel's, for an address that is not one, and for HTTPS without a certificate.
        FormatException when exception.Message.StartsWith("Invalid url", StringComparison.Ordinal) => exception.Message,
        InvalidOperationException
            when exception.Message.StartsWith("Unable to configure HTTPS", StringComparison.Ordinal) => exception.Message,
        _ => exception.ToString(),
    };

    private static bool IsInUse(Exception exception) =>
        exception is SocketException { SocketErrorCode: SocketError.AddressAlreadyInUse }
        || exception is IOException && exception.Message.Contains("in use", StringComparison.Ordinal)
        || exception is IOException && exception.InnerException is { } inner && IsInUse(inner);
}
