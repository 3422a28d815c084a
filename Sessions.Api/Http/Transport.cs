using Microsoft.AspNetCore.Server.Kestrel.Core;
using Sessions.Api.Engine;

namespace Sessions.Api.Http;

/// <summary>What the web server takes from a connection, before any code of ours sees it.</summary>
internal static class Transport
{
    private const long Surplus = 32 << 20;

    // How many may come at the same moment: one more is asked by its system to try again, a second later. Linux allows as many.
    private const int Backlog = 4096;

    /// <summary>Configures the web server.</summary>
    public static void AddTransport(this WebApplicationBuilder builder, LimitSettings limits) =>
        builder.WebHost.UseSockets(sockets => sockets.Backlog = Backlog).ConfigureKestrel(kestrel =>
    {
        kestrel.AddServerHeader = false;

        // More than is allowed (see Body): many clients read no answer before they have sent everything, so what is too
        // large is answered and then, within reason, read and thrown away.
        kestrel.Limits.MaxRequestBodySize = Math.Max(limits.RequestBodyBytes, limits.ContentBytes) + Surplus;

        // Past this a connection is closed without a word, so there are more of them than requests that are let in: those get an answer.
        kestrel.Limits.MaxConcurrentConnections = limits.Connections;

        // What a client may send ahead while its request is being answered. The default of 1 MiB, times all connections, would be a lot.
        kestrel.Limits.MaxRequestBufferSize = 64 << 10;
        kestrel.Limits.MaxRequestHeadersTotalSize = 32 << 10;
        kestrel.Limits.MaxRequestLineSize = 8 << 10;

        // Slow senders. A body has the same time as headers (see Body), and must not stand still for long; a client that does not take
        // its answer is dropped as well.
        kestrel.Limits.RequestHeadersTimeout = TimeSpan.FromSeconds(limits.ReceiveSeconds);
        kestrel.Limits.MinRequestBodyDataRate = new MinDataRate(bytesPerSecond: 240, gracePeriod: TimeSpan.FromSeconds(5));
        kestrel.Limits.MinResponseDataRate = new MinDataRate(bytesPerSecond: 240, gracePeriod: TimeSpan.FromSeconds(5));

        // Longer than the proxies in front keep an idle connection (mostly 60 s): it is theirs to close, or a request may meet the closing.
        kestrel.Limits.KeepAliveTimeout = TimeSpan.FromSeconds(130);

        // One connection is not to take the place of a hundred (with TLS; without it there is no HTTP/2).
        kestrel.Limits.Http2.MaxStreamsPerConnection = 100;

        // Nor to send ahead by the megabyte what nobody has asked for yet.
        kestrel.Limits.Http2.InitialConnectionWindowSize = 128 << 10;
        kestrel.Limits.Http2.InitialStreamWindowSize = 128 << 10;
    });

    /// <summary>Registers what bounds the requests in progress, and what ends them.</summary>
    public static void AddAdmission(this WebApplicationBuilder builder, LimitSettings limits)
    {
        var services = builder.Services;
        services.AddSingleton<RequestMetrics>();
        services.AddSingleton<Stopping>();
        services.AddSingleton<BodyBudget>();
        services.AddSingleton<Admission>();
        services.AddSingleton<GracefulStop>();
        services.AddHostedService(all => all.GetRequiredService<GracefulStop>());
        services.AddHealthChecks().AddCheck<GracefulStop>("server");
        services.Configure<HostOptions>(host => host.ShutdownTimeout = TimeSpan.FromSeconds(limits.ShutdownSeconds) + GracefulStop.Margin);
    }

    /// <summary>Lets requests in, or not.</summary>
    public static void UseAdmission(this WebApplication app)
    {
        var admission = app.Services.GetRequiredService<Admission>();
        app.Use(admission.InvokeAsync);
    }
}
