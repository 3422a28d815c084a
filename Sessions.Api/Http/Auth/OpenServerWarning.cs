using Microsoft.AspNetCore.Hosting.Server;
using Microsoft.AspNetCore.Hosting.Server.Features;

namespace Sessions.Api.Http.Auth;

/// <summary>Says it at the start where a server without authentication can be reached from other machines.</summary>
internal sealed partial class OpenServerWarning(IServer server, ILogger<OpenServerWarning> logger) : IHostedLifecycleService
{
    // Only now is it known where the server listens.
    public Task StartedAsync(CancellationToken cancellationToken)
    {
        var open = server.Features.Get<IServerAddressesFeature>()?.Addresses.Where(address => !IsLocal(address)).ToList();
        if (open is { Count: > 0 })
        {
            Log.Open(logger, string.Join(", ", open));
        }

        return Task.CompletedTask;
    }

    public Task StartingAsync(CancellationToken cancellationToken) => Task.CompletedTask;

    public Task StartAsync(CancellationToken cancellationToken) => Task.CompletedTask;

    public Task StoppingAsync(CancellationToken cancellationToken) => Task.CompletedTask;

    public Task StopAsync(CancellationToken cancellationToken) => Task.CompletedTask;

    public Task StoppedAsync(CancellationToken cancellationToken) => Task.CompletedTask;

    internal static bool IsLocal(string address)
    {
        var binding = BindingAddress.Parse(address);
        return binding.IsUnixPipe || binding.IsNamedPipe || LocalRequests.IsLoopbackName(binding.Host);
    }

    private static partial class Log
    {
        [LoggerMessage(EventId = 93, Level = LogLevel.Warning,
            Message = "There is no authentication (auth.mode: none), and the server listens on {Addresses}: "
                + "whoever reaches it can read, change and delete every session. See docs/authentication.md")]
        public static partial void Open(ILogger logger, string addresses);
    }
}
