using System.ComponentModel.DataAnnotations;
using System.Net;
using System.Net.Sockets;
using System.Threading.RateLimiting;
using Sessions.ServiceDefaults;

namespace Sessions.Api.Http;

/// <summary>The <c>rate_limit:</c> section of <c>config.yaml</c>: how much one caller may ask for.</summary>
internal sealed class RateLimitSettings
{
    /// <summary>The section's name.</summary>
    public const string Section = "rate_limit";

    /// <summary>Requests per minute, on average. 0: no limit.</summary>
    [Range(0, 10_000_000)]
    public int RequestsPerMinute { get; set; } = 6000;

    /// <summary>How many may come at once.</summary>
    [Range(1, 10_000_000)]
    public int Burst { get; set; } = 1000;

    /// <summary>Whether callers on this machine are limited as well.</summary>
    public bool Loopback { get; set; }
}

/// <summary>
/// Limits what one caller may ask for: who is authenticated by its name, others by their address. ASP.NET Core's own middleware, which
/// callers that are not limited go past.
/// </summary>
internal static class RateLimits
{
    // Addresses can be had by the million. They share so many places, whichever they fall into in this process; a place is freed when it
    // has not been used for some seconds.
    private const int Places = 1 << 16;

    /// <summary>Registers it.</summary>
    public static void AddRateLimits(this WebApplicationBuilder builder)
    {
        var settings = builder.AddSettings<RateLimitSettings>(RateLimitSettings.Section);
        if (settings.RequestsPerMinute == 0)
        {
            return;
        }

        var bucket = new TokenBucketRateLimiterOptions
        {
            TokenLimit = settings.Burst,
            TokensPerPeriod = 1,
            ReplenishmentPeriod = TimeSpan.FromMinutes(1) / settings.RequestsPerMinute,
            QueueLimit = 0,
            AutoReplenishment = false,
        };
        builder.Services.AddRateLimiter(options =>
        {
            options.GlobalLimiter = PartitionedRateLimiter.Create<HttpContext, Caller>(context =>
                RateLimitPartition.GetTokenBucketLimiter(Caller.Of(context), _ => bucket));
            options.OnRejected = (rejected, _) =>
            {
                var http = rejected.HttpContext;
                var wait = rejected.Lease.TryGetMetadata(MetadataName.RetryAfter, out var after) ? after : TimeSpan.FromSeconds(1);
                var problem = new Problem(
                    StatusCodes.Status429TooManyRequests, "rate_limited", $"More than {settings.RequestsPerMinute} requests per minute.")
                {
                    Limit = "rate_limit.requests_per_minute",
                    RetryAfter = wait,
                };
                http.RequestServices.GetRequiredService<RequestMetrics>().Refused(problem.Code);
                return new ValueTask(problem.ExecuteAsync(http));
            };
        });
    }

    /// <summary>Limits the requests.</summary>
    public static void UseRateLimits(this WebApplication app)
    {
        var settings = app.Services.GetRequiredService<RateLimitSettings>();
        if (settings.RequestsPerMinute == 0)
        {
            return;
        }

        app.Use(next =>
        {
            // Made for the first who is limited: most servers on a developer's machine never meet one.
            var limited = new Lazy<RequestDelegate>(() =>
            {
                var branch = ((IApplicationBuilder)app).New();
                branch.UseRateLimiter().Run(next);
                return branch.Build();
            });
            return context => IsLimited(context) ? limited.Value(context) : next(context);
        });

        bool IsLimited(HttpContext context) =>
            (settings.Loopback || !LocalRequests.IsLoopback(context.Connection.RemoteIpAddress)) && !Admission.IsProbe(context.Request);
    }

    /// <summary>Who asks: a name, or a place among the addresses.</summary>
    internal readonly record struct Caller(string? Name, int Place)
    {
        public static Caller Of(HttpContext context) => context.User.Identity is { IsAuthenticated: true, Name: { } name }
            ? new(name, 0)
            : new(null, PlaceOf(context.Connection.RemoteIpAddress));

        // Of an IPv6 address the network, which is what one customer is given.
        private static int PlaceOf(IPAddress? address)
        {
            if (address is null)
            {
                return 0;
            }

            Span<byte> bytes = stackalloc byte[16];
            address.TryWriteBytes(bytes, out var written);
            var network = address.AddressFamily == AddressFamily.InterNetworkV6 && !address.IsIPv4MappedToIPv6
                ? bytes[..8]
                : bytes[(written - 4)..written];
            var hash = default(HashCode);
            hash.AddBytes(network);
            return hash.ToHashCode() & (Places - 1);
        }
    }
}
