using Microsoft.AspNetCore.Authorization;
using Microsoft.AspNetCore.Http.Features;
using Microsoft.AspNetCore.OpenApi;
using Microsoft.OpenApi;
using Sessions.Api.Domain;
using Sessions.Api.Engine;
using Sessions.Api.Http.Auth;
using Sessions.Api.Http.Documentation;
using Sessions.Api.Http.OpenAi;
using Sessions.ServiceDefaults;

namespace Sessions.Api.Http;

/// <summary>What all endpoints have in common: addresses, limits, JSON, problems, documentation.</summary>
internal static class Http
{
    private const string DefaultUrl = "http://localhost:8080";

    /// <summary>Registers it.</summary>
    /// <param name="builder">The application.</param>
    /// <param name="port">The port that the command line asks for.</param>
    public static WebApplicationBuilder AddHttp(this WebApplicationBuilder builder, ushort? port)
    {
        var limits = builder.AddSettings<LimitSettings>(LimitSettings.Section);
        ListenOn(builder, port);
        builder.AddTransport(limits);
        builder.AddAdmission(limits);
        builder.AddRateLimits();
        builder.AddCorsFor();
        builder.AddTelemetry();
        builder.Services.ConfigureHttpJsonOptions(options =>
        {
            ApiJson.Configure(options.SerializerOptions).TypeInfoResolverChain.Insert(0, ApiJson.Default);
        });
        builder.Services.AddExceptionHandler<ProblemHandling>();

        // A lambda: the generator that puts the descriptions in looks for one.
        builder.Services.AddOpenApi(options => Document(options));
        return builder;
    }

    /// <summary>Makes every early end of a request a problem, and maps the documentation.</summary>
    public static WebApplication UseHttp(this WebApplication app)
    {
        app.Use(RequestTarget.UsePath);
        app.UseRouting();
        if (app.Services.GetRequiredService<AuthSettings>().Mode == AuthMode.None)
        {
            // Only authentication, and the pages that come with packages, have anything that lives as long as a request: otherwise the
            // scope that each would get is saved.
            var services = new ServicesOfAll(app.Services);
            app.Use((context, next) =>
            {
                if (context.GetEndpoint()?.Metadata.GetMetadata<IAllowAnonymous>() is null)
                {
                    context.Features.Set<IServiceProvidersFeature>(services);
                }

                return next(context);
            });
        }

        app.UseRequestLog();
        app.UseSecurityHeaders();
        app.UseConfiguredCors();
        app.UseOpenAiHeaders();
        app.UseAdmission();
        app.UseExceptionHandler(_ => { });
        app.Use(ProblemHandling.ExplainStatus);
        app.UseAuth();
        app.MapApiDocument();
        app.MapReferencePage();
        return app;
    }

    /// <summary>Names the errors that an endpoint may answer with, for the documentation.</summary>
    public static TBuilder Problems<TBuilder>(this TBuilder builder, params int[] statuses) where TBuilder : IEndpointConventionBuilder
    {
        foreach (var status in statuses)
        {
            builder.WithMetadata(new ProducesResponseTypeMetadata(status, typeof(Problem), ["application/problem+json"]));
        }

        return builder;
    }

    /// <summary>Bodies may have <see cref="LimitSettings.ContentBytes"/> here.</summary>
    public static TBuilder TakesContent<TBuilder>(this TBuilder builder) where TBuilder : IEndpointConventionBuilder =>
        builder.WithMetadata(ContentBody.Instance);

    private static void Document(OpenApiOptions options)
    {
        options.AddDocumentTransformer((document, _, _) =>
        {
            document.Info.Title = "Sessions";
            document.Info.Version = HomeApi.Version;
            return Task.CompletedTask;
        });

        // To a client a text is a string, and so is a time, however they are kept here; what something took is a number.
        options.CreateSchemaReferenceId = type => IsText(type.Type) || IsTime(type.Type) || IsSeconds(type.Type) ? null
            : OpenApiOptions.CreateDefaultSchemaReferenceId(type);
        options.AddSchemaTransformer((schema, context, _) =>
        {
            if (IsTime(context.JsonTypeInfo.Type))
            {
                schema.Type = StringOrNull(context.JsonTypeInfo.Type);
                schema.Format = "date-time";
            }
            else if (IsText(context.JsonTypeInfo.Type))
            {
                schema.Type = StringOrNull(context.JsonTypeInfo.Type);
            }
            else if (IsSeconds(context.JsonTypeInfo.Type))
            {
                schema.Type = JsonSchemaType.Number;
                schema.Format = "double";
            }

            return Task.CompletedTask;
        });

        static JsonSchemaType StringOrNull(Type type) =>
            Nullable.GetUnderlyingType(type) is null ? JsonSchemaType.String : JsonSchemaType.Null | JsonSchemaType.String;

        static bool IsTime(Type type) => (Nullable.GetUnderlyingType(type) ?? type) == typeof(ApiTime);

        static bool IsSeconds(Type type) => type == typeof(ApiSeconds);

        static bool IsText(Type type) => (Nullable.GetUnderlyingType(type) ?? type) == typeof(Utf8Text);
    }

    // Loopback only, unless told otherwise: by --port, or in one of the framework's own ways.
    private static void ListenOn(WebApplicationBuilder builder, ushort? port)
    {
        if (port is not null)
        {
            builder.WebHost.UseUrls($"http://localhost:{port}");
        }
        else if (builder.Configuration["urls"] is null && builder.Configuration["http_ports"] is null
            && builder.Configuration["https_ports"] is null
            && !builder.Configuration.GetSection("Kestrel:Endpoints").Exists())
        {
            builder.WebHost.UseUrls(DefaultUrl);
        }
    }

    /// <summary>One for all requests, and so never changed.</summary>
    private sealed class ServicesOfAll(IServiceProvider services) : IServiceProvidersFeature
    {
        public IServiceProvider RequestServices
        {
            get => services;
            set => throw new NotSupportedException();
        }
    }
}
