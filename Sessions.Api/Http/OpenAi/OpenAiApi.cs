using System.Diagnostics;
using System.Globalization;
using Sessions.Api.Http.Auth;
using Sessions.ServiceDefaults;

namespace Sessions.Api.Http.OpenAi;

/// <summary>OpenAI's wire, under <c>/v1</c>.</summary>
internal static class OpenAiApi
{
    private const string Root = "/v1";

    /// <summary>Registers what it needs.</summary>
    public static WebApplicationBuilder AddOpenAi(this WebApplicationBuilder builder)
    {
        builder.AddSettings<OpenAiSettings>(OpenAiSettings.Section);
        builder.Services.AddSingleton<StoredItems>();
        builder.Services.AddSingleton<ResponsePlan>();
        builder.Services.AddSingleton<RepeatedRequests>();
        return builder;
    }

    /// <summary>Whether a request is for this wire, so that its failures are told in its words.</summary>
    public static bool IsFor(HttpRequest request) => IsFor(request.Path);

    /// <summary>Whether an address is of this wire.</summary>
    public static bool IsFor(PathString path) => path.StartsWithSegments(Root, StringComparison.OrdinalIgnoreCase);

    /// <summary>Puts the headers on every answer that OpenAI's clients show: errors too.</summary>
    public static void UseOpenAiHeaders(this WebApplication app) => app.Use((context, next) =>
    {
        if (IsFor(context.Request))
        {
            var began = Stopwatch.GetTimestamp();
            var headers = context.Response.Headers;
            var requestId = Activity.Current?.TraceId.ToString() ?? Guid.NewGuid().ToString("N");
            context.Response.OnStarting(() =>
            {
                headers["x-request-id"] = requestId;
                headers["openai-version"] = "2020-10-01";
                headers["openai-processing-ms"] =
                    ((long)Stopwatch.GetElapsedTime(began).TotalMilliseconds).ToString(CultureInfo.InvariantCulture);
                return Task.CompletedTask;
            });
        }

        return next(context);
    });

    /// <summary>Maps the endpoints.</summary>
    public static WebApplication MapOpenAi(this WebApplication app)
    {
        var v1 = app.MapGroup(Root).ForConversations();
        v1.MapModels();
        v1.MapConversations();
        v1.MapResponses();
        v1.MapChatCompletions();
        return app;
    }
}
