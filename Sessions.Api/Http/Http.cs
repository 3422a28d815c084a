using Microsoft.AspNetCore.Authorization;
using Microsoft.AspNetCore.Http.Features;
using Microsoft.AspNetCore.OpenApi;
using Microsoft.OpenApi;
using Sessions.ServiceDefaults;

namespace Sessions.Api;

/// <summary>What all endpoints have in common: addresses, limits, JSON, problems, documentation.</summary>
internal static class Http
{
    private const string DefaultUrl = "http://localhost:8080";

    /// <summary>Registers it.</summary>
    public static WebApplicationBuilder AddHttp(this WebApplicationBuilder builder, string[] args)
    {
        builder.RequireKnownSections(
            SessionSettings.Section, AuthSettings.Section, AgentsSettings.Section, LimitSettings.Section, StreamingSettings.Section, EncryptionSettings.Section, RateLimitSettings.Section, CorsSettings.Section,
            TelemetrySettings.Section);
        builder.AddSettings<AgentsSettings>(AgentsSettings.Section);
        var limits = builder.AddSettings<LimitSettings>(LimitSettings.Section);
        ListenOn(builder, args);
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
        if (app.Services.GetRequiredService<AuthSettings>().Mode == AuthMode.None)
        {
            // Only authentication, and the pages that come with packages, have anything that lives as long as a request: otherwise the scope that each would get is saved.
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

        app.UseSecurityHeaders();
        app.UseConfiguredCors();
        app.UseAdmission();
        app.UseExceptionHandler(_ => { });
        app.Use(ProblemHandling.ExplainStatus);
        app.UseAuth();
        app.MapOpenApi().AllowAnonymous();
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

    /// <summary>Names the parameters of a list, for the documentation.</summary>
    public static RouteHandlerBuilder WithPaging(this RouteHandlerBuilder builder) => builder.AddOpenApiOperationTransformer((operation, _, _) =>
    {
        operation.Parameters ??= [];
        operation.Parameters.Add(Parameter("limit", ParameterLocation.Query, "How many entries: 1 to limits.page_size_max.", JsonSchemaType.Integer));
        operation.Parameters.Add(Parameter("after", ParameterLocation.Query, "The 'next' of the page before.", JsonSchemaType.String));
        operation.Parameters.Add(Parameter("order", ParameterLocation.Query, "asc or desc.", JsonSchemaType.String));
        return Task.CompletedTask;
    });

    /// <summary>Names a path parameter that is not bound by the framework, for the documentation.</summary>
    public static RouteGroupBuilder WithPathParameter(this RouteGroupBuilder builder, string name, string description) => builder.AddOpenApiOperationTransformer((operation, _, _) =>
    {
        operation.Parameters ??= [];
        if (operation.Parameters.All(parameter => parameter.Name != name))
        {
            operation.Parameters.Insert(0, Parameter(name, ParameterLocation.Path, description, JsonSchemaType.String));
        }

        return Task.CompletedTask;
    });

    private static void Document(OpenApiOptions options)
    {
        options.AddDocumentTransformer((document, _, _) =>
        {
            document.Info.Title = "Sessions";
            document.Info.Description = "The durable conversation layer for LLM agents.";
            return Task.CompletedTask;
        });

        // To a client a text is a string, however it is kept here.
        options.CreateSchemaReferenceId = type => IsText(type.Type) ? null : OpenApiOptions.CreateDefaultSchemaReferenceId(type);
        options.AddSchemaTransformer((schema, context, _) =>
        {
            if (IsText(context.JsonTypeInfo.Type))
            {
                schema.Type = context.JsonTypeInfo.Type == typeof(Utf8Text) ? JsonSchemaType.String : JsonSchemaType.Null | JsonSchemaType.String;
            }

            return Task.CompletedTask;
        });

        static bool IsText(Type type) => (Nullable.GetUnderlyingType(type) ?? type) == typeof(Utf8Text);
    }

    private static OpenApiParameter Parameter(string name, ParameterLocation location, string description, JsonSchemaType type) => new()
    {
        Name = name,
        In = location,
        Required = location == ParameterLocation.Path,
        Description = description,
        Schema = new OpenApiSchema { Type = type },
    };

    // Loopback only, unless told otherwise: by --port, or in one of the framework's own ways.
    private static void ListenOn(WebApplicationBuilder builder, string[] args)
    {
        // The command line alone: a PORT that happens to be in the environment is no wish of the user's.
        if (new ConfigurationBuilder().AddCommandLine(args).Build()["port"] is { } port)
        {
            builder.WebHost.UseUrls(ushort.TryParse(port, out var number) && number > 0
                ? $"http://localhost:{number}"
                : throw new SettingsException($"command line --port: '{port}' is not allowed; allowed: a whole number from 1 to 65535."));
        }
        else if (builder.Configuration["urls"] is null && builder.Configuration["http_ports"] is null && builder.Configuration["https_ports"] is null
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
