using System.Diagnostics;
using Microsoft.AspNetCore.Diagnostics;
using Microsoft.AspNetCore.Http.Extensions;
using Sessions.Api.Engine;

namespace Sessions.Api.Http;

/// <summary>A line for each request, where the log is told to have them: <c>Logging__LogLevel__Sessions=Debug</c>.</summary>
internal static partial class RequestLog
{
    private const string Category = "Sessions.Api.Requests";

    /// <summary>Writes it. Where nobody reads it, there is nothing of it in the pipeline.</summary>
    public static void UseRequestLog(this WebApplication app)
    {
        var logger = app.Services.GetRequiredService<ILoggerFactory>().CreateLogger(Category);
        if (!logger.IsEnabled(LogLevel.Debug))
        {
            return;
        }

        // An address holds ids of users, and what lists are narrowed by.
        var whole = app.Services.GetRequiredService<TelemetrySettings>().IncludeContent;
        app.Use(async (context, next) =>
        {
            var started = Stopwatch.GetTimestamp();
            try
            {
                await next(context);
            }
            finally
            {
                var endpoint = context.GetEndpoint() ?? context.Features.Get<IExceptionHandlerFeature>()?.Endpoint;
                var route = whole ? context.Request.GetEncodedPathAndQuery()
                    : (endpoint as RouteEndpoint)?.RoutePattern.RawText ?? "(no such route)";
                var took = Stopwatch.GetElapsedTime(started).TotalMilliseconds;
                Log.Answered(logger, context.Request.Method, route, context.Response.StatusCode, took);
            }
        });
    }

    private static partial class Log
    {
        [LoggerMessage(EventId = 92, Level = LogLevel.Debug, Message = "{Method} {Route} {Status} in {Milliseconds:0.0} ms")]
        public static partial void Answered(ILogger logger, string method, string route, int status, double milliseconds);
    }
}
