using System.Buffers;
using System.Text.Encodings.Web;
using System.Text.Json;
using System.Text.Json.Serialization.Metadata;
using Microsoft.AspNetCore.Http.Metadata;

namespace Sessions.Api.Http;

/// <summary>
/// An answer in JSON with status 200. The framework's own results begin to send before they know the length; this one is written to a
/// buffer that is kept for the next, by the code that was generated for its type, and sent in one piece.
/// </summary>
/// <param name="value">What is answered.</param>
/// <param name="textBytes">About how long it is, where that can be much: then it is sent as it is written, as fast as the client takes
/// it.</param>
internal sealed class JsonAnswer<T>(T value, long textBytes = 0) : IResult, IEndpointMetadataProvider
{
    public static void PopulateMetadata(System.Reflection.MethodInfo method, EndpointBuilder builder) =>
        JsonAnswers.Describe<T>(builder, StatusCodes.Status200OK);

    public Task ExecuteAsync(HttpContext httpContext) => textBytes > JsonAnswers.KeptBytes
        ? JsonAnswers.StreamAsync(httpContext, value)
        : JsonAnswers.WriteAsync(httpContext, StatusCodes.Status200OK, value);
}

/// <summary>The same with status 201, and where to find what was created.</summary>
/// <param name="location">Its path.</param>
/// <param name="value">What is answered.</param>
internal sealed class CreatedAnswer<T>(string location, T value) : IResult, IEndpointMetadataProvider
{
    public static void PopulateMetadata(System.Reflection.MethodInfo method, EndpointBuilder builder) =>
        JsonAnswers.Describe<T>(builder, StatusCodes.Status201Created);

    public Task ExecuteAsync(HttpContext httpContext)
    {
        httpContext.Response.Headers.Location = location;
        return JsonAnswers.WriteAsync(httpContext, StatusCodes.Status201Created, value);
    }
}

/// <summary>Writes answers in JSON.</summary>
internal static class JsonAnswers
{
    private const string ContentType = "application/json; charset=utf-8";

    /// <summary>What a thread keeps for its next answer; what is longer than that is rare.</summary>
    public const int KeptBytes = 64 << 10;

    private static readonly JsonWriterOptions Options = new()
    {
        Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping,
        MaxDepth = ApiJson.MaxDepth,
        SkipValidation = true,
    };

    [ThreadStatic]
    private static ArrayBufferWriter<byte>? _buffer;

    [ThreadStatic]
    private static Utf8JsonWriter? _writer;

    /// <summary>Tells the documentation of it.</summary>
    public static void Describe<T>(EndpointBuilder builder, int status) =>
        builder.Metadata.Add(new ProducesResponseTypeMetadata(status, typeof(T), ["application/json"]));

    /// <summary>Answers piece by piece.</summary>
    public static Task StreamAsync<T>(HttpContext context, T value) =>
        context.Response.WriteAsJsonAsync(value, Types<T>.Wire, ContentType, context.RequestAborted);

    /// <summary>Answers.</summary>
    public static Task WriteAsync<T>(HttpContext context, int status, T value)
    {
        // Taken while it is used: where the answer can't be sent at once, the next one gets another.
        var (buffer, writer) = (_buffer ?? new ArrayBufferWriter<byte>(1024), _writer);
        writer ??= new Utf8JsonWriter(buffer, Options);
        (_buffer, _writer) = (null, null);
        if (Types<T>.Fast is { } write)
        {
            write(writer, value);
        }
        else
        {
            JsonSerializer.Serialize(writer, value, Types<T>.Wire);
        }

        writer.Flush();
        var response = context.Response;
        response.StatusCode = status;
        response.ContentType = ContentType;
        response.ContentLength = buffer.WrittenCount;

        // Together with the headers. What goes to the body's PipeWriter before them is copied twice.
        var sent = response.Body.WriteAsync(buffer.WrittenMemory, context.RequestAborted);
        if (!sent.IsCompletedSuccessfully)
        {
            return AwaitAsync(sent);
        }

        // To be looked at once, as any ValueTask.
        sent.GetAwaiter().GetResult();
        if (buffer.Capacity <= KeptBytes)
        {
            buffer.ResetWrittenCount();
            writer.Reset(buffer);
            (_buffer, _writer) = (buffer, writer);
        }

        return Task.CompletedTask;
    }

    private static async Task AwaitAsync(ValueTask sent)
    {
        try
        {
            await sent;
        }
        catch (OperationCanceledException)
        {
            // The client has gone.
        }
    }

    private static class Types<T>
    {
        /// <summary>Written with the settings of the writer, where the generator could; null for what has extension data.</summary>
        public static readonly Action<Utf8JsonWriter, T>? Fast =
            ((JsonTypeInfo<T>)ApiJson.Default.GetTypeInfo(typeof(T))!).SerializeHandler;

        public static readonly JsonTypeInfo<T> Wire = (JsonTypeInfo<T>)ApiJson.Wire.GetTypeInfo(typeof(T))!;
    }
}
